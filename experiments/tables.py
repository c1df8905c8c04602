"""Tables in Markdown, and what stands around them on pages of results."""

import statistics
from collections.abc import Sequence

from lstmjax.record import Record


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def by_label(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records under their labels, in the order that labels first come in."""
    labels = dict.fromkeys(record.label for record in records)
    return {label: [record for record in records if record.label == label] for label in labels}


def commands(records: Sequence[Record]) -> str:
    """The command of each label, as a block of shell; nothing where there is no record."""
    lines = [f"{chosen[0].command}   # {label}" for label, chosen in by_label(records).items()]
    return "\n".join(["```sh", *lines, "```"]) if lines else ""


def mean_of(records: Sequence[Record], metric: str, digits: int = 3, scale: float = 1.0) -> str:
    """The mean of a metric times ``scale``, ± the sample standard deviation; empty where no record has it."""
    values = [scale * record.metrics[metric] for record in records if metric in record.metrics]
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def minutes(records: Sequence[Record]) -> str:
    """The median of how long the runs took."""
    return f"{statistics.median(record.seconds for record in records) / 60:.1f}"
