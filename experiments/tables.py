"""Tables in Markdown, and what stands around them on pages of results."""

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
