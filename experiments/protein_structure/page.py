"""The results page: metrics of the records beside each other and beside those of papers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.common.experiment import Page
from experiments.common.tables import Row, by_label, commands, mean_of, minutes, table, titled
from experiments.datasets.chains import STATES3, STATES8
from lstmjax.training.record import Record

MODELS = {
    "nr25-blstm": "two bidirectional LSTMs above a window of 7",
    "nr25-ensemble": "the mean of the probabilities of three nr25-blstm, of three seeds",
    "nr25-large": "two larger ones, as wide as in the repository CB513",
    "nr25-lstm": "in one direction: it sees three residues ahead, by its window",
    "nr25-rnn": "Elman networks in place of LSTMs",
    "nr25-window": "no recurrence, a window of 17",
    "nr25-sequence": "as blstm, from the sequence alone",
    "cb513-sequence": "as blstm, from the sequence alone",
}
"""The meanings of the labels of the records."""

GROUPS = {
    "nr25": (
        "ProMod3's structure database, a split of our own",
        "Culled at 25 % identity by those who made it, with profiles, eight states. The split is not a "
        "published one, so these figures do not compare with those of other sets. By local alignment some "
        "chains of the test set do have a relative in the other parts, of 30 % identity or more "
        "(`experiments/datasets/overlap.py`): the columns without relatives leave these out.",
    ),
    "flip": (
        "CB513 from sequences alone",
        "Trained on the chains of NetSurfP-2.0 in the split of FLIP, three states, no profiles; tested on "
        "the chains of CB513 that have no relative in these of 30 % identity or more. Published figures are "
        "of all of CB513, as the last column of figures is; the one-hot model of Høie et al. has no more to "
        "go by than ours has, the others profiles or a protein language model.",
    ),
    "cb6133": (
        "CB513 with profiles",
        "Trained on CullPDB, eight states. The arrays must be downloaded by hand. There is no record yet.",
    ),
}
"""Title and explanation of each data set."""

COLUMNS = {"q8": "Q8, %", "q3": "Q3, %", "sov8": "SOV of 8, %", "sov3": "SOV of 3, %"}
"""The metrics of the test set, and their titles."""

OTHERS = {
    "unrelated_q8": "Q8 without relatives, %",
    "unrelated_q3": "Q3 without relatives, %",
    "whole_q3": "Q3 with what was dropped, %",
}
"""Metrics on other parts of the test set, and their titles."""


class Paper(NamedTuple):
    """Published figures of CB513."""

    dataset: str
    """The data set of our records that they stand beside."""
    model: str
    source: str
    accuracy: Mapping[str, float]
    """In per cent, by the name of the metric."""
    comparable: bool = False
    """Whether it has the same inputs as ours, and stands in the README."""


PAPERS = (
    Paper("flip", "one-hot", "Høie et al. 2022", {"whole_q3": 71.9}, comparable=True),
    Paper("flip", "NetSurfP-2.0, with profiles", "Høie et al. 2022", {"whole_q3": 84.5}),
    Paper("flip", "NetSurfP-3.0, of a language model", "Høie et al. 2022", {"whole_q3": 84.6}),
    Paper("cb6133", "GSN", "Zhou and Troyanskaya 2014", {"q8": 66.4}),
    Paper("cb6133", "bidirectional LSTM", "Soenderby and Winther 2014", {"q8": 67.4}),
    Paper("cb6133", "ensemble", "Drori et al. 2018", {"q8": 70.7}),
)
"""Høie et al.: table 1 of NetSurfP-3.0 (Nucleic Acids Research 50, W510); Drori et al.: arXiv:1811.07143."""


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results."""
    rows = []
    for dataset, (title, _) in GROUPS.items():
        own = [record for record in records if record.config["dataset"] == dataset]
        papers = [paper for paper in PAPERS if (paper.dataset, paper.comparable) == (dataset, True)]
        for label, chosen in by_label(own).items():
            metric = next(name for name in ("whole_q3", "q8", "q3") if f"test_{name}" in chosen[0].metrics)
            paper = "; ".join(f"{each.model} {each.accuracy[metric]:.1f} ({each.source})" for each in papers)
            unit = "Q3 of all chains, %" if metric == "whole_q3" else f"{metric.upper()}, %"
            rows.append(Row(title, label, unit, paper, _per_cent(chosen, f"test_{metric}"), chosen))
    return rows


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    parts = [
        "# Protein secondary structure",
        "In per cent of residues whose state is known: Q8 of eight states, Q3 of helix (H, G, I), strand (E, "
        "B) and coil (T, S, C), by the sums of the states' probabilities. SOV is the overlap of segments "
        "(Zemla et al. 1999), the mean over chains. What was best on the validation set was tested once. The "
        "recipe was made for the bidirectional LSTM; the others have it without a search of their own, the "
        "Elman network at half the learning rate. Several seeds: mean ± sample standard deviation.",
    ]
    for dataset, (title, explanation) in GROUPS.items():
        own = [record for record in records if record.config["dataset"] == dataset]
        papers = [paper for paper in PAPERS if paper.dataset == dataset]
        parts += [
            f"## {title}",
            explanation,
            _sizes(own),
            _comparison(own, papers),
            _by_state(own),
            commands(own),
        ]
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _sizes(records: Sequence[Record]) -> str:
    """The size of the test set, and the number of its chains with relatives."""
    metrics = records[0].metrics if records else {}
    found = [
        f"{title}: {metrics[key]:,.0f}" for name, title in SIZES.items() if (key := f"test_{name}") in metrics
    ]
    return "; ".join(found) + "." if found else ""


SIZES = {
    "chains": "Chains of the test set",
    "residues": "residues with a known state",
    "related_chains": "chains with a relative",
    "dropped_chains": "chains that were dropped",
}
"""Descriptions of a test set, by label."""


def _comparison(records: Sequence[Record], papers: Sequence[Paper]) -> str:
    """The records of a data set, published figures, and the accuracy of the majority state."""
    there = {name.removeprefix("test_") for record in records for name in record.metrics}
    there |= {name for paper in papers for name in paper.accuracy}
    columns = {name: title for name, title in {**COLUMNS, **OTHERS}.items() if name in there}
    rows = [["model", *columns.values(), "epochs", "parameters", "seeds", "minutes (median)", "device"]]
    for label, own in by_label(records).items():
        figures = [_per_cent(own, f"test_{name}") for name in columns]
        parameters = f"{own[0].metrics['parameters']:,.0f}"
        epochs = str(own[0].config["epochs"])
        name = titled(label, MODELS) + _differences(own[0], records[0])
        rows.append([name, *figures, epochs, parameters, str(len(own)), minutes(own), own[0].device])
    for paper in papers:
        figures = [f"{paper.accuracy[name]:.1f}" if name in paper.accuracy else "" for name in columns]
        rows.append([f"{paper.model}, {paper.source}", *figures, *[""] * 5])
    if records:
        figures = [_per_cent(records[:1], f"test_majority_{name}") for name in columns]
        rows.append(["the commonest state of the training set", *figures, *[""] * 5])
    return table(rows)


def _differences(record: Record, first: Record) -> str:
    """What makes a record's row unequal to the first row, beside the model."""
    found = []
    if record.config["epochs"] != first.config["epochs"]:
        found.append(f"{record.config['epochs']} epochs and not {first.config['epochs']}")
    share = record.metrics["parameters"] / first.metrics["parameters"] - 1
    if abs(share) > 0.05:
        found.append(f"{abs(share):.0%} {'more' if share > 0 else 'fewer'} parameters")
    return f" ({', '.join(found)})" if found else ""


def _by_state(records: Sequence[Record]) -> str:
    """Precision and recall of each state, for the first label of the records."""
    if not records:
        return ""
    label, own = next(iter(by_label(records).items()))
    states = STATES8 if "test_q8" in own[0].metrics else STATES3
    rows = [[f"{label}, state", *states]]
    for name in ("precision", "recall"):
        figures = [_per_cent(own, f"test_{name}{len(states)}_{state}") or "n/a" for state in states]
        rows.append([f"{name}, %", *figures])
    return table(rows)


def _per_cent(records: Sequence[Record], metric: str) -> str:
    return mean_of(records, metric, digits=1, scale=100)


PAGE = Page(page, results)
