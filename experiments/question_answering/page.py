"""The results page: accuracies of all tasks beside those of the papers, as tables, from the records."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.common.experiment import Page
from experiments.common.tables import Row, by_label, commands, mean_of, minutes, table, titled
from experiments.datasets.babi import TASKS
from lstmjax.training.record import Record

LSTM = (50, 20, 20, 61, 70, 48, 49, 45, 64, 44, 72, 74, 94, 27, 21, 23, 51, 52, 8, 91)
"""Accuracies in per cent of the LSTM of Weston et al. 2015, table 3, task by task; their mean is 49."""

FAILED = 0.95
"""The accuracy below which a task counts as failed by Weston et al."""


class Paper(NamedTuple):
    """The published mean accuracy of a reader that was trained on 1,000 questions a task, without facts."""

    reader: str
    source: str
    accuracy: float
    """In per cent."""
    failed: int | None
    """The number of failed tasks; None if it is not known."""
    label: str
    """The label of the records to compare with it."""

    def __str__(self) -> str:
        return f"{self.reader}, {self.source}"


PAPERS = (
    Paper("LSTM for each task", "Weston et al. 2015", statistics.mean(LSTM), 20, "lstm-1k"),
    Paper("MemN2N for all tasks", "Sukhbaatar et al. 2015", 87.6, 11, "attention-1k"),
    Paper("QRN for each task", "Seo et al. 2017", 90.1, None, "attention-1k"),
)
"""MemN2N: a mean error of 12.4 %, with three hops, position encoding, linear start and random noise. QRN: an
average error of 9.9 %, by its authors' code (github.com/uwnlp/qrn)."""

READERS = {
    "lstm-1k": "an LSTM for each task",
    "attention-1k": "one attentive reader for all tasks",
    "attention-single-1k": "an attentive reader for each task",
}
"""The meanings of the labels of the records."""


def metric(task: int) -> str:
    """The name of the accuracy of a task."""
    return f"task{task:02d}_accuracy"


def failed(figures: Mapping[str, float]) -> int:
    """The number of failed tasks among accuracies that were computed from whole numbers of questions."""
    return sum(figures[metric(task)] < FAILED for task in TASKS)


def means(records: Sequence[Record]) -> str:
    """A table of the mean accuracies of papers and records."""
    rows = [
        ["reader", "questions a task", "facts", "mean accuracy, %", "tasks below 95%", "seeds", "minutes"]
    ]
    for paper in PAPERS:
        count = "" if paper.failed is None else str(paper.failed)
        rows.append([str(paper), QUESTIONS["1k"], FACTS["answers"], f"{paper.accuracy:.1f}", count, "", ""])
    return table(rows + [_mean_row(label, own) for label, own in by_label(records).items()])


QUESTIONS = {"1k": "1,000", "10k": "10,000"}
FACTS = {"answers": "not used", "facts": "used"}
"""Titles of config values: the number of training questions, and the use of supporting facts."""


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results."""
    rows = []
    for label, own in by_label(records).items():
        data = f"bAbI, {QUESTIONS[own[0].config['size']]} questions a task"
        papers = (
            f"{each.reader} {each.accuracy:.1f} ({each.source})" for each in PAPERS if each.label == label
        )
        ours = mean_of(own, "mean_accuracy", digits=1, scale=100)
        rows.append(Row(data, label, "mean accuracy, %", "; ".join(papers), ours, own))
    return rows


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    parts = [
        "# Question answering",
        "The twenty tasks of bAbI v1.2 in English: accuracy on the 1,000 test questions of each task, in per "
        "cent. An answer that is a list (tasks 8 and 19) is right as a whole or not. What was best on the "
        "validation part, a tenth of the training part, was tested once. Minutes are medians.",
        means(records),
        "## Task by task",
        _tasks(records),
        "Minutes are of cores that other work shared. MemN2N has three hops; its paper chose the best of ten "
        "runs by their training error. QRN's authors ask for ten runs, too, of which the one with the lowest "
        "validation loss is tested. Our figures are of one run for each seed.",
        commands(records),
        SIDE_BY_SIDE,
        "Built by `make pages` from the records in this folder.",
    ]
    return "\n\n".join(parts) + "\n"


SIDE_BY_SIDE = (
    "The readers of single tasks are trained side by side in one step, in groups that `jax.vmap` runs as "
    "one; by default each is a group of its own (`--groups 20`). On CPU the native code of the LSTM takes "
    "the models of a group one after the other, and their shorter stories are padded to the longest: "
    "`python -m experiments question_answering speed` measures what larger groups take beside that."
)
"""Explanation of training by vmap, on the page."""


def per_task(columns: Mapping[str, Mapping[str, float]]) -> str:
    """A table of the tasks: the paper's LSTM, and metrics in titled columns."""
    shown = {
        label: {name: f"{100 * value:.1f}" for name, value in own.items()} for label, own in columns.items()
    }
    return _table_of_tasks(shown)


def _table_of_tasks(columns: Mapping[str, Mapping[str, str]]) -> str:
    rows = [["task", "", str(PAPERS[0]), *columns]]
    for (task, title), paper in zip(TASKS.items(), LSTM, strict=True):
        rows.append([str(task), title, str(paper), *(own[metric(task)] for own in columns.values())])
    means = [own["mean_accuracy"] for own in columns.values()]
    return table([*rows, ["", "**mean**", f"{statistics.mean(LSTM):.1f}", *means]])


def _tasks(records: Sequence[Record]) -> str:
    """The table of tasks: mean and standard deviation of each label over seeds."""
    names = [*map(metric, TASKS), "mean_accuracy"]
    return _table_of_tasks(
        {
            label: {name: mean_of(own, name, digits=1, scale=100) for name in names}
            for label, own in by_label(records).items()
        }
    )


def _mean_row(label: str, records: Sequence[Record]) -> list[str]:
    config = records[0].config
    return [
        titled(label, READERS),
        QUESTIONS[config["size"]],
        FACTS[config["supervision"]],
        mean_of(records, "mean_accuracy", digits=1, scale=100),
        mean_of(records, "failed_tasks", digits=1 if len(records) > 1 else 0),
        str(len(records)),
        minutes(records),
    ]


PAGE = Page(page, results)
