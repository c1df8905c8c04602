"""Metrics of a run for TensorBoard, beside `metrics.jsonl`: an event file in the run's folder."""

from collections.abc import Callable
from pathlib import Path

from lstmjax.training.config import ConfigError
from lstmjax.training.record import Entry


def sink(folder: Path) -> Callable[[Entry], None]:
    """Writes each metric of an entry as ``<kind>/<metric>`` into an event file in the folder.

    Raises:
      ConfigError: the package that writes event files is not installed.
    """
    try:
        from tensorboardX import SummaryWriter  # noqa: PLC0415 (of the extra `tensorboard`)
    except ImportError as error:
        raise ConfigError('--tensorboard needs a package: pip install "lstmjax[tensorboard]".') from error
    writer = SummaryWriter(str(folder), flush_secs=10)

    def write(entry: Entry) -> None:
        for metric, value in entry.metrics.items():
            writer.add_scalar(f"{entry.kind}/{metric}", value, entry.step)

    return write
