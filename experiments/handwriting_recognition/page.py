"""The results page."""

from collections.abc import Sequence

from experiments.common.experiment import Page
from experiments.common.tables import Row
from experiments.handwriting_recognition import reading_page as reading
from experiments.handwriting_recognition.writing import page as writing
from lstmjax.training.record import Record


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    parts = ["# Handwriting", *reading.section(records), *writing.section(records)]
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(part for part in parts if part) + "\n"


def rows(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results."""
    return reading.rows(records)


PAGE = Page(page, rows)
