"""The page of protein structure: the figures of records beside each other and beside those of papers."""

import statistics
from collections.abc import Sequence

from experiments.datasets.proteins import STATES8
from experiments.tables import by_label, commands, table
from lstmjax.record import Record

MODELS = {
    "nr25-blstm": "bidirectional LSTM",
    "nr25-large": "the same, two layers of 400",
    "nr25-lstm": "LSTM from the first residue on",
    "nr25-rnn": "bidirectional Elman network",
    "nr25-window": "dense layers over a window",
    "nr25-sequence": "bidirectional LSTM, sequence alone",
    "cb513-sequence": "bidirectional LSTM, sequence alone",
}
"""What the labels of the records stand for."""

GROUPS = {
    "nr25": (
        "Chains of promod3's structure database",
        "6,048 chains, no two of them more than 25 % identical, with profiles. The split is not a published "
        "one (`experiments/datasets/proteins.py`), so that these figures do not compare with those of CB513.",
    ),
    "flip": (
        "CB513 from sequences alone",
        "Trained on the chains of NetSurfP-2.0, as FLIP has them, with three states and without profiles; "
        "tested on those of CB513 that are like none of them.",
    ),
    "cb6133": (
        "CB513 with profiles, eight states",
        "Soenderby and Winther 2014 have a Q8 of 67.4 %; Zhou and Troyanskaya 2014 66.4 %. These arrays must "
        "be downloaded by hand; there is no record.",
    ),
}
"""Title and explanation of each data set."""

COLUMNS = {"q8": "Q8, %", "q3": "Q3, %", "sov8": "SOV of 8, %", "sov3": "SOV of 3, %"}
"""The metrics of a table."""


def readme(records: Sequence[Record]) -> str:
    """All records in one table."""
    return _comparison(records, majority=False)


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    parts = [
        "# Protein secondary structure",
        "The state of each residue that the tests know, in per cent of residues: Q8 of eight states, Q3 of "
        "helix (H, G, I), strand (E, B) and coil (T, S, C) by the sums of their states' probabilities. SOV: "
        "the overlap of segments (Zemla et al. 1999), the mean over chains. What was best on the validation "
        "set was tested once; several seeds: mean ± sample standard deviation.",
    ]
    for dataset, (title, explanation) in GROUPS.items():
        own = [record for record in records if record.config["dataset"] == dataset]
        parts += [f"## {title}", explanation]
        if own:
            parts += [_comparison(own, majority=True), *_by_state(own), commands(own)]
    parts += [
        "Minutes are of two cores that other work shared.",
        "Built by `make pages` from the records in this folder.",
    ]
    return "\n\n".join(parts) + "\n"


def _comparison(records: Sequence[Record], majority: bool) -> str:
    """The records of a table, and what the commonest state would reach."""
    rows = [["model", *COLUMNS.values(), "parameters", "seeds", "minutes (median)"]]
    for label, own in by_label(records).items():
        title = f"**{label}**: {MODELS[label]}" if label in MODELS else f"**{label}**"
        figures = [_figure(own, f"test_{name}") for name in COLUMNS]
        minutes = statistics.median(record.seconds for record in own) / 60
        parameters = f"{own[0].metrics['parameters']:,.0f}"
        rows.append([title, *figures, parameters, str(len(own)), f"{minutes:.1f}"])
    if majority:
        figures = [_figure(records[:1], f"test_majority_{name}") for name in COLUMNS]
        rows.append(["the commonest state of the training set", *figures, "", "", ""])
    return table(rows)


def _by_state(records: Sequence[Record]) -> list[str]:
    """Precision and recall of each state, of the first label of the records."""
    label, own = next(iter(by_label(records).items()))
    states = [state for state in STATES8 if f"test_recall8_{state}" in own[0].metrics]
    count = 8 if states else 3
    states = states or ["H", "E", "C"]
    rows = [[f"{label}, state", *states]]
    rows += [
        [f"{name}, %", *(_figure(own, f"test_{name}{count}_{state}") for state in states)]
        for name in ("precision", "recall")
    ]
    return [table(rows)]


def _figure(records: Sequence[Record], metric: str) -> str:
    """The mean in per cent over records that have a metric, and how it varies."""
    values = [100 * record.metrics[metric] for record in records if metric in record.metrics]
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"
