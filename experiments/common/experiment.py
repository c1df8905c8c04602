"""What an experiment declares."""

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
    """How records are shown."""

    text: Callable[[Records], str]
    """The page in the experiment's folder of results, in Markdown."""
    rows: Callable[[Records], list[Row]] = _no_rows
    """Rows of the README's table of results."""
    readme: Callable[[Records], str] | None = None
    """A table of the experiment's own in the README, under its name."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a package in `experiments` declares as its ``EXPERIMENT``."""

    description: str
    """Paper, data, model, loss, recipe, cost: the docstring of the package."""
    config: type[Any]
    """Its flags: a frozen dataclass, subclass of `RunConfig`."""
    run: Callable[[Any, Run], None]
    """Train, evaluate, and write everything into the run's folder, from the config."""
    page: Page
    """How its records are shown, beside the published figures."""
    preset: Callable[[Any], Any] = lambda config: config
    """The defaults that belong to the choices in a config, such as the data set."""
    commands: Mapping[str, Callable[[Sequence[str]], None]] = dataclasses.field(default_factory=dict)
    """What ``python -m experiments NAME COMMAND`` does beside training; each takes the arguments after it."""
    prepare: Callable[[Any], None] = lambda config: None
    """What must be set from the config before JAX is used."""
