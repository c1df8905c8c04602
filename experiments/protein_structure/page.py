"""The results page: metrics of the records beside each other and beside those of papers."""

from collections.abc import Sequence

from experiments.common.experiment import Page
from experiments.common.tables import Row, by_label, commands, mean_of, minutes, table, titled
from experiments.datasets.chains import STATES3, STATES8
from lstmjax.training.record import Record

MODELS = {
    "nr25-blstm": "two bidirectional LSTMs above a window of 7",
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
        "of all of CB513, as the last column of figures is.",
    ),
    "cb6133": (
        "CB513 with profiles",
        "Trained on CullPDB, eight states. Soenderby and Winther 2014 have a Q8 of 67.4 %, Zhou and "
        "Troyanskaya 2014 66.4 %. The arrays must be downloaded by hand.",
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


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results."""
    rows = []
    for dataset, (title, _) in GROUPS.items():
        own = [record for record in records if record.config["dataset"] == dataset]
        for label, chosen in by_label(own).items():
            metric = "q8" if "test_q8" in chosen[0].metrics else "q3"
            unit = f"{metric.upper()}, %"
            rows.append(Row(title, label, unit, "", _per_cent(chosen, f"test_{metric}"), chosen))
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
        parts += [f"## {title}", explanation]
        parts += [_sizes(own[0]), _comparison(own), _by_state(own), commands(own)] if own else [NO_RECORD]
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(parts) + "\n"


NO_RECORD = "There is no record yet."


def _sizes(record: Record) -> str:
    """The size of the test set, and the number of its chains with relatives."""
    found = {
        name: f"{record.metrics[f'test_{name}']:,.0f}" for name in SIZES if f"test_{name}" in record.metrics
    }
    return "; ".join(f"{SIZES[name]}: {count}" for name, count in found.items()) + "."


SIZES = {
    "chains": "Chains of the test set",
    "residues": "residues with a known state",
    "related_chains": "chains with a relative",
    "dropped_chains": "chains that were dropped",
}
"""Descriptions of a test set, by label."""


def _comparison(records: Sequence[Record]) -> str:
    """The records of a data set, and the accuracy of the majority state."""
    there = {name for record in records for name in record.metrics}
    columns = {name: title for name, title in {**COLUMNS, **OTHERS}.items() if f"test_{name}" in there}
    rows = [["model", *columns.values(), "epochs", "parameters", "seeds", "minutes (median)", "device"]]
    for label, own in by_label(records).items():
        figures = [_per_cent(own, f"test_{name}") for name in columns]
        parameters = f"{own[0].metrics['parameters']:,.0f}"
        epochs = str(own[0].config["epochs"])
        rows.append(
            [titled(label, MODELS), *figures, epochs, parameters, str(len(own)), minutes(own), own[0].device]
        )
    figures = [_per_cent(records[:1], f"test_majority_{name}") for name in columns]
    rows.append(["the commonest state of the training set", *figures, *[""] * 5])
    return table(rows)


def _by_state(records: Sequence[Record]) -> str:
    """Precision and recall of each state, for the first label of the records."""
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
