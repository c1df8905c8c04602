"""Tables of results, from the records in `experiments/results` alone; and of cells, from the code."""

import functools
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.__main__ import EXPERIMENTS
from experiments.benchmark import Benchmark
from experiments.tables import by_label, commands, mean_of, minutes, table
from lstmjax.catalogue import CELLS
from lstmjax.record import Record, load_records

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"


def build(check: bool = False) -> list[Path]:
    """Write the page of each experiment and the tables of the README.

    Args:
      check: write nothing.

    Returns:
      The files that were not up to date.
    """
    pages = {ROOT / "README.md": _readme((ROOT / "README.md").read_text("utf-8"))}
    for name in EXPERIMENTS:
        page = getattr(_module(name), "page", functools.partial(_page, name))
        pages[RESULTS / name / "README.md"] = page(load_records(RESULTS, name))
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in [] if check else stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[path], "utf-8")
    return [path.relative_to(ROOT) for path in stale]


def benchmark(experiment: str) -> Benchmark | None:
    """The figures that an experiment is compared with; None for one that makes its own page."""
    return getattr(_module(experiment), "BENCHMARK", None)


def _module(experiment: str) -> Any:
    return importlib.import_module(f"experiments.{experiment}")


def _readme(text: str) -> str:
    tables = {"results": _summary_table(), "cells": _table_of_cells()}
    for name in EXPERIMENTS:
        if hasattr(_module(name), "readme"):
            tables[name] = _module(name).readme(load_records(RESULTS, name))
    for name, text_of in tables.items():
        begin, end = f"<!-- begin: table of {name} (make pages) -->", f"<!-- end: table of {name} -->"
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = f"{before}{begin}\n{text_of}\n{end}{after}"
    return text


def _table_of_cells() -> str:
    rows = [["cell", "made by", "what is special", "paper"]]
    rows += [[name, f"`{entry.call}`", entry.summary, entry.paper] for name, entry in CELLS.items()]
    return table(rows)


def _summary_table() -> str:
    rows = [["experiment", "data", "row", "paper", "ours", "seeds", "minutes (median)"]]
    for experiment in EXPERIMENTS:
        about, records = benchmark(experiment), load_records(RESULTS, experiment)
        if about is None:
            continue
        link = f"[{experiment}](experiments/results/{experiment}/README.md)"
        for published in about.published:
            chosen = [record for record in records if record.label == published.label]
            if published.label and chosen:
                paper = f"{published.value:g} ({published.source})"
                group = about.groups[published.group]
                figures = [mean_of(chosen, about.metric), str(len(chosen)), minutes(chosen)]
                rows.append([link, group, f"{published.label}, {about.unit}", paper, *figures])
    return table(rows)


def _page(experiment: str, records: Sequence[Record]) -> str:
    about = benchmark(experiment)
    assert about is not None
    summary = EXPERIMENTS[experiment]
    parts = [f"# {about.title}", f"{summary[:1].upper()}{summary[1:]}.", about.note]
    parts.append(f"Figures are `{about.metric}`, {about.unit}: mean ± sample standard deviation over seeds.")
    for group, title in about.groups.items():
        own = [record for record in records if record.config[about.group_by] == group]
        comparison = _comparison(about, group, own)
        parts += [f"## {title}", comparison, _details(about, own), commands(own)] if comparison else []
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _comparison(about: Benchmark, group: str, records: Sequence[Record]) -> str:
    rows = [["model", about.metric, "validation", "seeds", "parameters", "minutes (median)", "device"]]
    for label, chosen in by_label(records).items():
        valid = mean_of(chosen, re.sub(r"test\d*", "valid", about.metric))
        parameters = f"{chosen[0].metrics['parameters']:,.0f}"
        figures = [mean_of(chosen, about.metric), valid, _seeds(chosen), parameters, minutes(chosen)]
        rows.append([f"**{label}**", *figures, chosen[0].device])
    rows += [
        [f"{published.model}, {published.source}", f"{published.value:.2f}", *[""] * 5]
        for published in about.published
        if published.group == group
    ]
    return table(rows) if len(rows) > 1 else ""


def _details(about: Benchmark, records: Sequence[Record]) -> str:
    if not about.details or not records:
        return ""
    rows = [["model", *about.details.values()]]
    for label, chosen in by_label(records).items():
        rows.append([f"**{label}**", *(mean_of(chosen, metric, digits=1) for metric in about.details)])
    return table(rows)


def _seeds(records: Sequence[Record]) -> str:
    return ", ".join(str(record.seed) for record in records)
