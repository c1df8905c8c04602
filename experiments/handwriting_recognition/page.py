"""The results page."""

from collections.abc import Sequence

from experiments.common.experiment import Page
from experiments.common.tables import commands
from lstmjax.training.record import Record


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    parts = ["# Handwriting", commands(records), "Built by `make pages` from the records in this folder."]
    return "\n\n".join(part for part in parts if part) + "\n"


PAGE = Page(page)
