"""The subcommand: report."""

from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments.common.models import RESULTS
from experiments.gate_ablation import page, pictures
from experiments.gate_ablation.comparison import load_searches
from lstmjax.training.record import RecordError, load_records


def report(arguments: Sequence[str]) -> None:
    """``report``: plot the kept searches of all variants side by side, and print the tests."""

    def write(out: Path = Path("report")) -> None:
        """Plot the kept searches of all variants side by side, and print what the results page has.

        Args:
            out: the folder to write to.
        """
        records = load_records(RESULTS, "gate_ablation")
        searches = load_searches(records)
        if not searches:
            raise RecordError("no search is kept: `record RUN --label LABEL --keep-model` keeps one.")
        out.mkdir(parents=True, exist_ok=True)
        parameters = {record.config["variant"]: record.metrics["parameters"] for record in records}
        pictures.draw_variants(searches, parameters, out / "variants.png")
        for variant, trials in searches.items():
            pictures.draw_trials(trials, variant, out / f"trials-{variant}.png")
        print(page.page(records))
        print(out)

    tyro.cli(write, prog="python -m experiments gate_ablation report", args=arguments)


COMMANDS = {"report": report}
