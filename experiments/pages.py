"""Tables of results, built from the records in `experiments/results` and from nothing else."""

import importlib
import statistics
from collections.abc import Sequence
from pathlib import Path

from experiments.__main__ import EXPERIMENTS
from experiments.benchmark import Benchmark
from lstmjax.record import Record, Summary, load_records, summarize

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
BEGIN, END = "<!-- begin: table of results (make pages) -->", "<!-- end: table of results -->"


def build(check: bool = False) -> list[Path]:
    """Write the page of each experiment and the table of the README.

    Args:
      check: write nothing.

    Returns:
      The files that were not up to date.
    """
    pages = {ROOT / "README.md": _readme((ROOT / "README.md").read_text("utf-8"))}
    for name in EXPERIMENTS:
        pages[RESULTS / name / "README.md"] = _page(name, load_records(RESULTS, name))
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in [] if check else stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[path], "utf-8")
    return [path.relative_to(ROOT) for path in stale]


def benchmark(experiment: str) -> Benchmark:
    """The figures that an experiment is compared with."""
    return importlib.import_module(f"experiments.{experiment}").BENCHMARK


def _readme(text: str) -> str:
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{_summary_table()}\n{END}{after}"


def _summary_table() -> str:
    rows = [["experiment", "data", "row", "paper", "ours", "seeds", "minutes (median)"]]
    for experiment in EXPERIMENTS:
        about, records = benchmark(experiment), load_records(RESULTS, experiment)
        link = f"[{experiment}](experiments/results/{experiment}/README.md)"
        for published in about.published:
            chosen = [record for record in records if record.label == published.label]
            if published.label and chosen:
                paper = f"{published.value:g} ({published.source})"
                group = about.groups[published.group]
                figures = [_figure(chosen, about.metric), str(len(chosen)), _minutes(chosen)]
                rows.append([link, group, f"{published.label}, {about.unit}", paper, *figures])
    return _table(rows)


def _page(experiment: str, records: Sequence[Record]) -> str:
    about = benchmark(experiment)
    parts = [f"# {about.title}", EXPERIMENTS[experiment].capitalize() + ".", about.note]
    parts.append(f"Figures are `{about.metric}`, {about.unit}: mean ± sample standard deviation over seeds.")
    for group, title in about.groups.items():
        parts.append(f"## {title}")
        own = [record for record in records if record.config[about.group_by] == group]
        parts += [_comparison(about, group, own), _commands(own)]
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _comparison(about: Benchmark, group: str, records: Sequence[Record]) -> str:
    rows = [["model", about.metric, "validation", "seeds", "parameters", "minutes (median)", "device"]]
    for label, chosen in _by_label(records).items():
        valid = _figure(chosen, about.metric.replace("test", "valid"))
        parameters = f"{chosen[0].metrics['parameters']:,.0f}"
        figures = [_figure(chosen, about.metric), valid, _seeds(chosen), parameters, _minutes(chosen)]
        rows.append([f"**{label}**", *figures, chosen[0].device])
    rows += [
        [f"{published.model}, {published.source}", f"{published.value:.2f}", *[""] * 5]
        for published in about.published
        if published.group == group
    ]
    return _table(rows) if len(rows) > 1 else ""


def _commands(records: Sequence[Record]) -> str:
    lines = [f"{chosen[0].command}   # {label}" for label, chosen in _by_label(records).items()]
    return "\n".join(["```sh", *lines, "```"]) if lines else ""


def _by_label(records: Sequence[Record]) -> dict[str, list[Record]]:
    labels = dict.fromkeys(record.label for record in records)
    return {label: [record for record in records if record.label == label] for label in labels}


def _figure(records: Sequence[Record], metric: str) -> str:
    statistic = _summary(records).metrics.get(metric)
    if statistic is None:
        return ""
    spread = f" ± {statistic.deviation:.3f}" if statistic.seeds > 1 else ""
    return f"{statistic.mean:.3f}{spread}"


def _seeds(records: Sequence[Record]) -> str:
    return ", ".join(str(record.seed) for record in records)


def _minutes(records: Sequence[Record]) -> str:
    return f"{statistics.median(record.seconds for record in records) / 60:.1f}"


def _summary(records: Sequence[Record]) -> Summary:
    (summary,) = summarize(records).values()
    return summary


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])
