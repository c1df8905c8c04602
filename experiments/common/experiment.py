"""The declaration of an experiment."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.common.tables import Row
from lstmjax.training.record import Record, Run

Records = Sequence[Record]


def _no_rows(records: Records) -> list[Row]:
    return []


@dataclasses.dataclass(frozen=True)
class Page:
    """How the records of an experiment are presented."""

    text: Callable[[Records], str]
    """The results page in the experiment's folder of results, in Markdown."""
    rows: Callable[[Records], list[Row]] = _no_rows
    """Rows of the README's table of results."""
    readme: Callable[[Records], str] | None = None
    """A separate table of the experiment in the README, under its name."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The declaration of an experiment: the ``EXPERIMENT`` of its package."""

    description: str
    """Paper, data, model, loss, recipe, cost: the docstring of the package."""
    config: type[Any]
    """Its flags: a frozen dataclass, a subclass of `RunConfig`."""
    run: Callable[[Any, Run], None]
    """Train and evaluate as the config says, and write all results into the run's folder."""
    page: Page
    """The presentation of its records, with the published results."""
    preset: Callable[[Any], Any] = lambda config: config
    """Returns the defaults for the choices in a config, such as the data set."""
    commands: Mapping[str, Callable[[Sequence[str]], None]] = dataclasses.field(default_factory=dict)
    """The subcommands ``python -m experiments NAME COMMAND``; each takes the arguments after its name."""
    prepare: Callable[[Any], None] = lambda config: None
    """Settings that must be made from the config before JAX is used."""
