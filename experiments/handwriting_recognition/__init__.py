r"""Handwriting: the text that a pen wrote, from its path.

    python -m experiments handwriting_recognition                    words of UNIPEN
    python -m experiments handwriting_recognition --task lowercase   letters by themselves
    python -m experiments handwriting_recognition --task digits
    python -m experiments handwriting_recognition --task pendigits   in minutes
    python -m experiments handwriting_recognition --task synthesis   writing in place of reading

Paper. Graves, Liwicki, Fernandez, Bertolami, Bunke and Schmidhuber 2009 (IEEE TPAMI 31(5)).

Data. `unipen.py` and `pendigits.py` in `experiments/datasets`: no writer of the test split is in
another split.

Cost and figures: `experiments/results/handwriting_recognition`.
"""

from experiments.common.experiment import Experiment, Page
from experiments.handwriting_recognition.config import Config, preset
from lstmjax import training
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Do the task of a config."""
    if config.task == "synthesis":
        from experiments.handwriting_recognition.writing.run import run as write  # noqa: PLC0415

        return write(config, run)
    raise training.ConfigError(f"--task {config.task} is not there yet.")


EXPERIMENT = Experiment(
    __doc__, Config, run, Page(lambda records: f"# Handwriting\n{len(records)} records\n"), preset
)
