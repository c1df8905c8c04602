"""The commands on runs and records, which are the same for all experiments."""

import sys
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from experiments.common import artifacts, models, pages, terminal
from experiments.common import report as reports
from experiments.common.experiment import Experiment
from lstmjax.training import record as records
from lstmjax.training.record import RecordError, Run


def main(name: str, arguments: Sequence[str]) -> None:
    """Execute a command."""
    tyro.cli(COMMANDS[name], prog=f"python -m experiments {name}", args=arguments)


def record(
    run: Annotated[Path, tyro.conf.Positional],
    label: str,
    replace: bool = False,
    keep_model: bool = False,
    keep_pictures: bool = False,
) -> None:
    """Keep a finished run's metrics and curves, as experiments/results/<experiment>/<label>-seed<N>.json.

    Args:
        run: the run's folder.
        label: name of the row in tables: lower case letters, digits and hyphens.
        replace: overwrite the record of another run with the same label and seed.
        keep_model: also keep its model, in .../models/<label>.
        keep_pictures: also keep its pictures, sounds and texts, in .../pictures/<label>.
    """
    opened = Run.open(run)
    if opened.config.get("quick") or opened.config.get("limit"):
        raise RecordError(f"{run} was quick or limited: its figures are of no use.")
    pages.check_commits([records.record_of(run, label)])
    path = records.keep(run, label, models.RESULTS, replace=replace)
    kept = records.read_record(path)
    print(path)
    artifacts.keep_curves(opened, kept, models.RESULTS)
    for file in artifacts.keep_files(run, kept, models.RESULTS) if keep_pictures else ():
        print(file)
    if keep_model:
        about = models.keep(run, kept).model
        print(f"its model: {about['bytes']:,} bytes, {about['dtype']}")


def keep(
    experiment: Annotated[str, tyro.conf.Positional],
    label: Annotated[str, tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional],
) -> None:
    """Keep pictures, sounds and texts of a folder with a label, such as what its kept model has generated.

    Args:
        experiment: the experiment.
        label: the label of its records.
        folder: the folder; what is kept replaces what was kept before.
    """
    own = [each for each in records.load_records(models.RESULTS, experiment) if each.label == label]
    if not own:
        raise RecordError(f"{experiment} has no record with the label {label}.")
    if not artifacts.files_in(folder, deep=False):
        raise RecordError(f"{folder} has no pictures, sounds or texts.")
    for file in artifacts.keep_files(folder, own[0], models.RESULTS):
        print(file)


def list_models() -> None:
    """List the models that are kept with the records."""
    for each in records.load_records(models.RESULTS):
        if each.model:
            about = f"{each.model['dtype']}, {each.model['bytes']:,} bytes"
            print(f"{each.experiment:<20} {each.label:<20} seed {each.seed}, {about}")


def build_pages(check: bool = False) -> None:
    """Build the tables of the README and the result pages from experiments/results.

    Args:
        check: write nothing; fail if a file is out of date.
    """
    stale = pages.build(_experiments(), check=check)
    if check and stale:
        sys.exit(f"not up to date: {', '.join(map(str, stale))}. Run `make pages`.")


def report(out: Path = Path("report"), runs: Path = Path("runs"), open: bool = False) -> None:
    """Build one page of all results: figures beside those of the papers, curves, pictures, sounds, samples.

    It needs no server and no network. It shows what is kept in experiments/results, and the files of the runs
    at hand that records were made from.

    Args:
        out: the folder to write; `index.html` is the page.
        runs: parent folder of the run folders.
        open: open the page in a browser.
    """
    page = reports.build(_experiments(), models.RESULTS, runs, out)
    print(page)
    if open:
        webbrowser.open(page.resolve().as_uri())


def show(run: Annotated[Path, tyro.conf.Positional], open: bool = False) -> None:
    """Print what a run has: figures, learning curves, samples, and the names of its other files.

    Args:
        run: the run's folder.
        open: open its pictures and sounds with the desktop's programs.
    """
    for path in terminal.show(Run.open(run)):
        if open:
            webbrowser.open(path.resolve().as_uri())


def compare(runs: Annotated[tuple[Path, ...], tyro.conf.Positional], metric: str | None = None) -> None:
    """Print the learning curves of several runs together, their figures, and how their configs differ.

    Args:
        runs: the folders of the runs.
        metric: the metric to plot; by default the first of the validation set that all of them have.
    """
    terminal.compare([Run.open(path) for path in runs], metric)


def _experiments() -> dict[str, Experiment]:
    from experiments.__main__ import EXPERIMENTS, load  # noqa: PLC0415 (it imports this module)

    return {name: load(name) for name in EXPERIMENTS}


COMMANDS: dict[str, Callable[..., None]] = {
    "record": record,
    "keep": keep,
    "models": list_models,
    "pages": build_pages,
    "report": report,
    "show": show,
    "compare": compare,
}
