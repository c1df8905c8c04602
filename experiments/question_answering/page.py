"""The results page: accuracies of all tasks beside those of the papers, as tables, from the records."""

import statistics
from collections.abc import Mapping, Sequence

from experiments.common.experiment import Page
from experiments.common.tables import Row, by_label, commands, mean_of, minutes, table, titled
from experiments.datasets.babi import TASKS
from lstmjax.training.record import Record

LSTM = (50, 20, 20, 61, 70, 48, 49, 45, 64, 44, 72, 74, 94, 27, 21, 23, 51, 52, 8, 91)
"""Accuracies in per cent of the LSTM of Weston et al. 2015, table 3, task by task; their mean is 49."""

MEMORY_NETWORK = 86.0
"""Approximate mean accuracy in per cent of the memory networks of Sukhbaatar et al. 2015: 1k, joint."""

PAPERS = {"lstm": "LSTM, Weston et al. 2015", "attention": "MemN2N, Sukhbaatar et al. 2015, joint"}

FAILED = 0.95
"""The accuracy below which a task counts as failed by Weston et al."""

READERS = {
    "lstm-1k": "an LSTM for each task",
    "attention-1k": "one attentive reader for all tasks",
    "attention-single-1k": "an attentive reader for each task",
}
"""The meanings of the labels of the records."""


def metric(task: int) -> str:
    """The name of the accuracy of a task."""
    return f"task{task:02d}_accuracy"


def means(records: Sequence[Record]) -> str:
    """A table of the mean accuracies of papers and records."""
    rows = [
        ["reader, 1,000 questions a task", "mean accuracy, %", "tasks below 95%", "seeds", "minutes (median)"]
    ]
    failed = sum(value < 100 * FAILED for value in LSTM)
    rows.append([PAPERS["lstm"], f"{statistics.mean(LSTM):.0f}", str(failed), "", ""])
    rows += [_mean_row(label, own) for label, own in by_label(records).items() if label.startswith("lstm")]
    rows.append([PAPERS["attention"], f"about {MEMORY_NETWORK:.0f}", "", "", ""])
    rows += [
        _mean_row(label, own) for label, own in by_label(records).items() if not label.startswith("lstm")
    ]
    return table(rows)


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results."""
    papers = {"lstm-1k": f"{statistics.mean(LSTM):.0f} (Weston et al. 2015)"}
    papers["attention-1k"] = f"{MEMORY_NETWORK:g} (Sukhbaatar et al. 2015)"
    return [
        Row(
            "bAbI, 1,000 questions a task",
            label,
            "mean accuracy, %",
            papers.get(label, ""),
            mean_of(own, "mean_accuracy", digits=1, scale=100),
            own,
        )
        for label, own in by_label(records).items()
    ]


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    parts = [
        "# Question answering",
        "The twenty tasks of bAbI v1.2 in English: accuracy on the 1,000 test questions of each task, in per "
        "cent. An answer that is a list (tasks 8 and 19) is right as a whole or not. What was best on the "
        "validation part, a tenth of the training part, was tested once; supporting facts were not used.",
        means(records),
        "## Task by task",
        per_task({label: _means(own) for label, own in by_label(records).items()}),
        "Minutes are of cores that other work shared. The mean of the memory network is what its paper "
        "has for three hops with all tasks trained jointly, rounded. It chose the best of ten runs by their "
        "training error; our figures are of one run for each seed.",
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
    rows = [["task", "", PAPERS["lstm"], *columns]]
    for (task, title), paper in zip(TASKS.items(), LSTM, strict=True):
        rows.append(
            [str(task), title, str(paper), *(f"{100 * own[metric(task)]:.1f}" for own in columns.values())]
        )
    means = [f"{100 * own['mean_accuracy']:.1f}" for own in columns.values()]
    return table([*rows, ["", "**mean**", f"{statistics.mean(LSTM):.0f}", *means]])


def _mean_row(label: str, records: Sequence[Record]) -> list[str]:
    failed = statistics.mean(record.metrics["failed_tasks"] for record in records)
    return [
        titled(label, READERS),
        mean_of(records, "mean_accuracy", digits=1, scale=100),
        f"{failed:g}",
        str(len(records)),
        minutes(records),
    ]


def _means(records: Sequence[Record]) -> dict[str, float]:
    names = [*map(metric, TASKS), "mean_accuracy"]
    return {name: statistics.mean(record.metrics[name] for record in records) for name in names}


PAGE = Page(page, results)
