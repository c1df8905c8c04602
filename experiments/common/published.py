"""Published results, kept with the code that compares them with the records."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from experiments.common.experiment import Page
from experiments.common.tables import Row, by_label, commands, mean_of, minutes, table
from lstmjax.training.record import Record


@dataclasses.dataclass(frozen=True)
class Published:
    """A published result."""

    group: str
    """The benchmark that it belongs to, such as a data set."""
    model: str
    """The model, in the paper's words."""
    value: float
    """Its value, in the metric of the benchmark."""
    source: str
    """The paper."""
    label: str = ""
    """The label of our records to compare with it: the README shows all results of a label in one row."""

    def __str__(self) -> str:
        # As papers print them: 8.10 nats and 71.9 %.
        nats = self.value < 10 and round(self.value, 2) == self.value
        return f"{self.model} {self.value:{'.2f' if nats else 'g'}} ({self.source})"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """How the records of an experiment are tabulated."""

    title: str
    """Title of the experiment."""
    metric: str
    """The metric of the records that is compared."""
    unit: str
    """Unit of the metric."""
    group_by: str
    """The config field by which records are grouped."""
    groups: dict[str, str]
    """The groups in order, with their titles."""
    published: tuple[Published, ...]
    """The published results."""
    note: str = ""
    """Remarks on the results, for the reader."""
    details: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Metrics of the records for a second table, with their titles."""
    digits: int = 1
    """Decimals of the second table."""

    @property
    def page(self) -> Page:
        """The presentation of the records, as tables."""
        return Page(self._page, self._rows)

    def _page(self, records: Sequence[Record]) -> str:
        parts = [f"# {self.title}", self.note]
        parts.append(
            f"Figures are `{self.metric}`, {self.unit}: mean ± sample standard deviation over seeds."
        )
        for group, title in self.groups.items():
            own = [record for record in records if record.config[self.group_by] == group]
            comparison = _comparison(self, group, own)
            parts += [f"## {title}", comparison, _details(self, own), commands(own)] if comparison else []
        parts.append("Built by `make pages` from the records in this folder.")
        return "\n\n".join(part for part in parts if part) + "\n"

    def _rows(self, records: Sequence[Record]) -> list[Row]:
        rows = []
        for label in dict.fromkeys(published.label for published in self.published if published.label):
            papers = [published for published in self.published if published.label == label]
            chosen = [record for record in records if record.label == label]
            if chosen:
                data, ours = self.groups[papers[0].group], mean_of(chosen, self.metric)
                rows.append(Row(data, label, self.unit, "; ".join(map(str, papers)), ours, chosen))
        return rows


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
    rows = [["model", *about.details.values()]]
    for label, chosen in by_label(records).items():
        figures = [mean_of(chosen, metric, about.digits) for metric in about.details]
        rows += [[f"**{label}**", *figures]] if any(figures) else []
    return table(rows) if len(rows) > 1 else ""


def _seeds(records: Sequence[Record]) -> str:
    return ", ".join(str(record.seed) for record in records)
