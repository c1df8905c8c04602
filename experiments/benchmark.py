"""What an experiment is compared with: the figures of the papers, kept beside the code that answers them."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Published:
    """A figure from the literature."""

    group: str
    """The benchmark it belongs to, such as a data set."""
    model: str
    """The model, in the paper's words."""
    value: float
    """The figure, of the benchmark's metric."""
    source: str
    """The paper."""
    label: str = ""
    """The label of our records that answer this figure, which then stand beside it in the README."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """How the records of an experiment are put into tables."""

    title: str
    """Name of the experiment."""
    metric: str
    """The metric of the records that is compared."""
    unit: str
    """What it is measured in."""
    group_by: str
    """The config value that tells groups apart."""
    groups: dict[str, str]
    """The groups in order, and their titles."""
    published: tuple[Published, ...]
    """Figures of the papers."""
    note: str = ""
    """What a reader of the figures must know."""
    details: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Metrics of the records that stand in a second table, and their titles."""
