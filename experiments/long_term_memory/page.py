"""The results page: for each problem, the figures of the papers and the records beside them."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments.common.experiment import Page
from experiments.common.tables import Row, by_label, commands, minutes, table
from experiments.long_term_memory.problems import PROBLEMS
from lstmjax.training.record import Record

TEST = 2560
"""Sequences of the test in the paper of 1997, of which the wrong ones are counted."""


class Paper(NamedTuple):
    """A published result."""

    problem: str
    length: int
    """T; 0 for any."""
    network: str
    success: str
    """Successful trials in per cent."""
    sequences: str
    """Sequences until success, mean of the successful trials."""
    wrong: str
    """Wrong sequences of 2,560; for copy memory the loss in nats."""
    parameters: str
    source: str
    cell: str = "lstm"
    """Our cell to compare with it."""

    def __str__(self) -> str:
        return f"{self.network}: {self.sequences} ({self.source})"


_1997 = "Hochreiter and Schmidhuber 1997"

PAPERS = (
    Paper("adding", 100, "LSTM", "", "74,000", "1", "93", f"{_1997}, table 7"),
    Paper("adding", 500, "LSTM", "", "209,000", "0", "93", f"{_1997}, table 7"),
    Paper("adding", 1000, "LSTM", "", "853,000", "1", "93", f"{_1997}, table 7"),
    Paper("multiplication", 100, "LSTM, n_seq = 13", "", "1,273,000", "14", "93", f"{_1997}, table 8"),
    Paper("temporal-order-2", 0, "LSTM, task 6a", "", "31,390", "1", "156", f"{_1997}, table 9"),
    Paper("temporal-order-3", 0, "LSTM, task 6b", "", "571,100", "2", "308", f"{_1997}, table 9"),
    Paper("two-sequence", 100, "LSTM, N = 3, ST2", "", "39,850", "0.5", "102", f"{_1997}, table 4"),
    Paper("reber", 0, "LSTM, 3 blocks of 2, rate 0.5", "100", "8,440", "", "276", f"{_1997}, table 1"),
    Paper("reber", 0, "LSTM, 4 blocks of 1, rate 0.1", "100", "39,740", "", "264", f"{_1997}, table 1"),
    Paper("reber", 0, "Elman net", "0", "> 200,000", "", "435", "Cleeremans et al. 1989", "rnn"),
    Paper("reber", 0, "RTRL, 12 units", "some", "25,000", "", "494", "Smith and Zipser 1989", "rnn"),
)
"""From the tables of the paper of 1997, which quotes those of Cleeremans et al. and of Smith and Zipser."""


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
    parts = [
        "# Long-term memory",
        "How many sequences a network reads until it has solved a problem, by the criterion of its "
        "paper. Each row of ours is of several networks, with random seeds of their own, that are "
        "trained side by side as one program. The median counts a network that did not solve the "
        "problem with all the sequences that it was given; where half or more did not, it is a lower "
        "bound and marked so. `wrong of 2,560` is the mean number of further sequences that the "
        "networks that solved the problem get wrong. Figures of papers are means over trials.",
        "The papers trained by gradient descent after each sequence, with truncated gradients; here "
        "it is Adam, on batches of 20 sequences, with the whole gradient, so the comparison is with "
        "what was possible then. `lstm-1997` is their cell, without forget gates, trained as all "
        "others here; forget gates begin nearly open (bias 5), and rate and number of steps were set, for "
        "the LSTM only, in trials with the seed of the records. Each sequence is new, so there is no test "
        "set to choose on, but the plain RNN and the GRU had no such care. In the papers the embedded Reber "
        "grammar had 256 training and 256 test strings; here all strings are new, and the 512 most "
        "recent ones must be right. Minutes are of one core that other work shared.",
    ]
    for group in dict.fromkeys(map(_group, records)):
        own = [record for record in records if _group(record) == group]
        rows = [HEADER, *map(_row, own)]
        for paper in _papers(own[0]):
            name = f"{paper.network}, {paper.source}"
            rows.append([name, paper.success, "", paper.sequences, paper.wrong, paper.parameters, "", ""])
        parts += [f"## {group[0].upper()}{group[1:]}", table(rows), commands(own)]
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(parts) + "\n"


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results."""
    rows = []
    for label, chosen in by_label(records).items():
        record, unit = chosen[0], "sequences until solved"
        networks = (
            f"{record.metrics['success_rate'] * record.config['models']:.0f} of {record.config['models']}"
        )
        papers = "; ".join(str(each) for each in _papers(record) if each.cell == record.config["cell"])
        rows.append(Row(_group(record), label, unit, papers, f"{median(record)} ({networks})", chosen))
    return rows


PAGE = Page(page, results)
