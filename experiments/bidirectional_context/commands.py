"""The subcommand pictures: what the page shows, from the records and the kept networks."""

from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments.bidirectional_context import pictures
from experiments.bidirectional_context.config import Config
from experiments.bidirectional_context.data import load
from experiments.bidirectional_context.task import load_model, probabilities
from experiments.common import models
from experiments.datasets.files import DataError
from lstmjax.training.record import load_records

NETWORKS = ("digits-past", "digits-future", "digits-both", "digits-delayed")
"""Labels of the kept networks that are drawn at work."""


def draw(arguments: Sequence[str]) -> None:
    """``pictures``: the accuracy against the delay and by place, and networks at work on a spoken digit."""

    def write(
        out: Path = models.RESULTS / "bidirectional_context" / "pictures",
        digit: int = 7,
        data_dir: Path | None = None,
    ) -> None:
        """Draw what the page shows.

        Args:
            out: the folder to write to.
            digit: the networks are shown at work on the first recording of it in the validation split.
            data_dir: folder of the data sets.
        """
        records = load_records(models.RESULTS, "bidirectional_context")
        saved = {label: load_model(models.kept("bidirectional_context", label)) for label in NETWORKS}
        valid = load(Config(dataset="digits", data_dir=data_dir)).valid
        chosen = [each.inputs for each in valid if each.labels[0] == digit]
        if not chosen:
            raise DataError(f"no recording of the validation split is of the digit {digit}.")
        curves = {
            label: probabilities(one.model, one.params, chosen[0])[:, digit] for label, one in saved.items()
        }
        out.mkdir(parents=True, exist_ok=True)
        pictures.draw_delays(records, out / "delays.png")
        pictures.draw_places(records, out / "places.png")
        pictures.draw_digit(chosen[0], curves, f"a spoken {digit}", out / "digit.png")
        print(out)

    tyro.cli(write, prog="python -m experiments bidirectional_context pictures", args=arguments)


COMMANDS = {"pictures": draw}
