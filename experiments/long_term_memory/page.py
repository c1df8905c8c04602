"""The results page: for each problem, the figures of the papers and the records beside them."""

import math
from collections.abc import Sequence

from experiments.common.experiment import Page
from experiments.common.tables import Row, by_label, commands, minutes, table
from experiments.long_term_memory.about import ABOUT, INTRODUCTION, PROCEDURE
from experiments.long_term_memory.papers import PAPERS, Paper
from experiments.long_term_memory.problems import PROBLEMS
from lstmjax.training.record import Record

TEST = 2560
"""Sequences of the test in the paper of 1997, of which the wrong ones are counted."""


def _group(record: Record) -> str:
    return PROBLEMS[record.config["problem"]](record.config["length"]).title


def _papers(record: Record) -> list[Paper]:
    problem, length = record.config["problem"], record.config["length"]
    return [paper for paper in PAPERS if paper.problem == problem and paper.length in (0, length)]


def _thousands(record: Record, name: str) -> str:
    value = record.metrics.get(name)
    return "" if value is None else f"{value:,.0f}"


def median(record: Record) -> str:
    """The median of sequences until the solution; a lower bound if at most half of the networks have one."""
    bound = "" if record.metrics["success_rate"] > 0.5 else "> "
    return f"{bound}{record.metrics['sequences_to_solve']:,.0f}"


def _row(record: Record) -> list[str]:
    names = ("sequences_mean", "sequences_min", "sequences_max")
    mean, least, most = (_thousands(record, name) for name in names)
    wrong = record.metrics.get("test_wrong_solved")
    return [
        f"**{record.label}**",
        f"{100 * record.metrics['success_rate']:.0f}",
        median(record),
        f"{mean} ({least} to {most})" if mean else "",
        "" if wrong is None else f"{TEST * wrong:.1f}",
        f"{record.metrics['parameters']:,.0f}",
        str(record.config["models"]),
        minutes([record]),
    ]


HEADER = [
    "network",
    "solved, %",
    "sequences, median",
    "mean of those that solved it (range)",
    "wrong of 2,560",
    "parameters",
    "networks",
    "minutes",
]


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    parts = ["# Long-term memory", INTRODUCTION, PROCEDURE]
    order = list(PROBLEMS)
    records = sorted(records, key=lambda record: order.index(record.config["problem"]))
    for group in dict.fromkeys(map(_group, records)):
        own = [record for record in records if _group(record) == group]
        rows = [HEADER, *map(_row, own)]
        for paper in _papers(own[0]):
            name = f"{paper.network}, {paper.source}"
            rows.append([name, paper.success, "", paper.sequences, paper.wrong, paper.parameters, "", ""])
        about = ABOUT[own[0].config["problem"]]
        parts += [f"## {group[0].upper()}{group[1:]}", about, table(rows), _more(own), commands(own)]
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _more(records: Sequence[Record]) -> str:
    """Further figures of a problem: losses beside what is possible without a memory, lengths of streams."""
    config = records[0].config
    if config["problem"] == "copy":
        own = ", ".join(f"{record.label} {record.metrics['test_loss']:.4f}" for record in records)
        blind = 10 * math.log(8) / (config["length"] + 20)
        return (
            f"Mean loss on the test sequences, in nats a step: {own}; without a memory at least {blind:.4f}."
        )
    streams = [record for record in records if "stream" in record.metrics]
    own = ", ".join(
        f"{record.label} {record.metrics['stream']:,.0f} ({record.metrics['stream_min']:,.0f})"
        for record in streams
    )
    about = (
        "Symbols until the first error, at most 100,000, the mean over ten streams; median and least of the"
    )
    return f"{about} networks: {own}." if own else ""


BESIDE_PAPERS = (
    "adding-100-lstm",
    "multiplication-lstm",
    "temporal-order-3-lstm",
    "reber-lstm",
    "reber-rnn",
    "continual-reber-lstm",
)
"""The rows of the README's table: one problem of a kind."""


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results."""
    rows = []
    for label, chosen in by_label(records).items():
        record, unit = chosen[0], "sequences until solved"
        networks = (
            f"{record.metrics['success_rate'] * record.config['models']:.0f} of {record.config['models']}"
        )
        papers = "; ".join(str(each) for each in _papers(record) if each.cell == record.config["cell"])
        if label in BESIDE_PAPERS:
            rows.append(Row(_group(record), label, unit, papers, f"{median(record)} ({networks})", chosen))
    return rows


PAGE = Page(page, results)
