"""Markdown tables, and other text of results pages."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lstmjax.training.record import Record, summarize


class Row(NamedTuple):
    """A row of the README's table of results: one of our results with a published one."""

    data: str
    label: str
    unit: str
    paper: str
    ours: str
    records: Sequence[Record]


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its header."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def by_label(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records grouped by label, labels in order of first occurrence."""
    labels = dict.fromkeys(record.label for record in records)
    return {label: [record for record in records if record.label == label] for label in labels}


def titled(label: str, meanings: Mapping[str, str]) -> str:
    """A label for a table, with its meaning if that is known."""
    return f"**{label}**: {meanings[label]}" if label in meanings else f"**{label}**"


def commands(records: Sequence[Record]) -> str:
    """The command of each label, as a shell code block; empty without records."""
    lines = [f"{chosen[0].command}   # {label}" for label, chosen in by_label(records).items()]
    return "\n".join(["```sh", *lines, "```"]) if lines else ""


def mean_of(records: Sequence[Record], metric: str, digits: int = 3, scale: float = 1.0) -> str:
    """The mean of a metric over the records of one label, times ``scale``, ± the sample standard deviation.

    Empty if no record has the metric.
    """
    (summary,) = summarize(records).values()
    statistic = summary.metrics.get(metric)
    if statistic is None:
        return ""
    spread = f" ± {scale * statistic.deviation:.{digits}f}" if statistic.seeds > 1 else ""
    return f"{scale * statistic.mean:.{digits}f}{spread}"


def spread_of(record: Record, metric: str, digits: int = 3, scale: float = 1.0) -> str:
    """Mean and range of a metric over the models of one run, times ``scale``, see `mapped.spread`.

    Empty if the record does not have the metric.
    """
    if metric not in record.metrics:
        return ""
    names = (metric, f"{metric}_min", f"{metric}_max")
    mean, least, most = (f"{scale * record.metrics[name]:.{digits}f}" for name in names)
    return f"{mean} ({least} to {most})"


def seeds(records: Sequence[Record]) -> int:
    """How many random seeds the records stand for: a run may train several models side by side, or none."""
    return sum(_models(record.config) if "parameters" in record.metrics else 1 for record in records)


def _models(config: Mapping[str, Any]) -> int:
    count: int = config.get("models") or config.get("seeds", 1)
    return count


def minutes(records: Sequence[Record]) -> str:
    """The median duration of the runs in minutes."""
    return f"{statistics.median(record.seconds for record in records) / 60:.1f}"
