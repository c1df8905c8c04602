"""The subcommand: report."""

from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments.common.models import RESULTS
from experiments.gate_ablation import comparison, page, pictures
from lstmjax.training.record import RecordError, load_records


def report(arguments: Sequence[str]) -> None:
    """``report``: plot the recorded variants side by side, and print the results page."""

    def write(out: Path = Path("variants")) -> None:
        """Plot the recorded variants side by side, and print the results page.

        Args:
            out: the folder to write to.
        """
        records = load_records(RESULTS, "gate_ablation")
        if not records:
            raise RecordError("nothing is recorded: `python -m experiments record` keeps a run.")
        own = comparison.by_variant(records)
        out.mkdir(parents=True, exist_ok=True)
        pictures.draw_variants(own, comparison.load_searches(own), out / "variants.png")
        print(page.page(records))
        print(out)

    tyro.cli(write, prog="python -m experiments gate_ablation report", args=arguments)


COMMANDS = {"report": report}
