"""Builds the tables of results, from the records in `experiments/results` alone, and the tables of cells."""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from experiments.common.experiment import Experiment
from experiments.common.models import RESULTS
from experiments.common.tables import by_label, minutes, seeds, table
from lstmjax.cells.catalogue import CELLS
from lstmjax.training.record import Record, RecordError, load_records

ROOT = RESULTS.parent.parent


def build(experiments: Mapping[str, Experiment], check: bool = False) -> list[Path]:
    """Write the page of each experiment and the tables of README and documents.

    Args:
      experiments: the experiments, by name.
      check: write nothing.

    Returns:
      The files that were out of date.

    Raises:
      RecordError: a record's commit is not in the history.
    """
    records = {name: load_records(RESULTS, name) for name in experiments}
    check_commits(record for own in records.values() for record in own)
    tables = {"results": _results(experiments, records), "cells": _cells(), "costs": _costs(records)}
    pages = {}
    for name, experiment in experiments.items():
        pages[RESULTS / name / "README.md"] = experiment.page.text(records[name])
        if experiment.page.readme is not None:
            tables[name] = experiment.page.readme(records[name])
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        pages[path] = _filled(path.read_text("utf-8"), tables)
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in [] if check else stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[path], "utf-8")
    return [path.relative_to(ROOT) for path in stale]


def check_commits(records: Iterable[Record]) -> None:
    """Raise RecordError if a session of a record ran on a commit that is not an ancestor of HEAD.

    Without the complete history, nothing is checked.
    """
    history = _history()
    if history is None:
        return
    for record in records:
        commits = {record.commit, *(session.commit for session in record.sessions)}
        if not commits <= history:
            raise RecordError(
                f"{record.file} was made from {', '.join(sorted(commits - history))}, which is no commit in "
                "the history of HEAD: run it again, from a commit that stays."
            )


def _history() -> frozenset[str] | None:
    """The commits up to HEAD; None without git, without a repository, or in a shallow clone."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    try:
        if git("rev-parse", "--is-shallow-repository").strip() == "true":
            return None
        return frozenset(git("rev-list", "HEAD").split())
    except (OSError, subprocess.CalledProcessError):
        return None


def _filled(text: str, tables: Mapping[str, str]) -> str:
    """A document with its tables inserted, each between the two marker lines that name it."""
    for name, table_text in tables.items():
        begin, end = f"<!-- begin: table of {name} (make pages) -->", f"<!-- end: table of {name} -->"
        if begin in text:
            before, rest = text.split(begin)
            _, after = rest.split(end)
            text = f"{before}{begin}\n{table_text}\n{end}{after}"
    return text


def _cells() -> str:
    rows = [["cell", "made by", "difference from the LSTM", "paper"]]
    rows += [[name, f"`{entry.call}`", entry.summary, entry.paper] for name, entry in CELLS.items()]
    return table(rows)


def _costs(records: Mapping[str, list[Record]]) -> str:
    rows = [["experiment", "row", "command", "minutes (median)", "device", "last run"]]
    for name, own in records.items():
        for label, chosen in by_label(own).items():
            last = max(chosen, key=_last_run)
            ran = f"{_last_run(last)[:10]} `{last.commit[:10]}`".strip()
            rows.append([name, label, f"`{last.command}`", minutes(chosen), last.device, ran])
    return table(rows)


def _last_run(record: Record) -> str:
    return max((session.started for session in record.sessions), default="")


def _results(experiments: Mapping[str, Experiment], records: Mapping[str, list[Record]]) -> str:
    rows = [["experiment", "data", "row", "paper", "ours", "seeds", "minutes (median)"]]
    for name, experiment in experiments.items():
        link = f"[{name}](experiments/results/{name}/README.md)"
        for row in experiment.page.rows(records[name]):
            what = f"{row.label}, {row.unit}"
            figures = [row.paper, row.ours, str(seeds(row.records)), minutes(row.records)]
            rows.append([link, row.data, what, *figures])
    return table(rows)
