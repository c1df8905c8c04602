"""Plots and texts of a bAbI run: accuracies beside the paper's, attention weights, wrong answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.datasets.babi import TASKS, Question
from experiments.question_answering import page


class Answered(NamedTuple):
    """A question with a reader's answer."""

    question: Question
    answer: str
    confidence: float
    """The probability of the given answer."""
    weights: Float[np.ndarray, "hops sentences"] | None
    """Attention weights of each hop over the last sentences of the story, if the reader has attention."""

    @property
    def right(self) -> bool:
        """Whether the given answer is correct."""
        return self.answer == self.question.answer


def draw_accuracies(figures: Mapping[str, float], title: str, path: Path) -> None:
    """Plot the accuracy of each task as bars, beside those of the paper's LSTM."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes, places = figure.subplots(), np.arange(len(TASKS))
    ours = [100 * figures[page.metric(task)] for task in TASKS]
    axes.bar(places - 0.2, page.LSTM, 0.4, label=str(page.PAPERS[0]), color="lightgrey")
    axes.bar(places + 0.2, ours, 0.4, label=f"{title}, mean {100 * figures['mean_accuracy']:.1f}")
    axes.axhline(100 * page.FAILED, color="black", linewidth=0.5, linestyle=":")
    axes.set_xticks(
        places, [f"{task} {name}" for task, name in TASKS.items()], rotation=40, ha="right", fontsize=8
    )
    axes.set(ylabel="test accuracy, %", ylim=(0, 101))
    axes.legend(loc="lower left", fontsize=8)
    figure.savefig(path, dpi=120)


def draw_attention(answered: Sequence[Answered], folder: Path, longest: int = 16) -> None:
    """``attention-NN.png``: attention weights by hop, for each task's first question with a short story."""
    for task in TASKS:
        fitting = [each for each in answered if each.question.task == task and each.weights is not None]
        fitting = [each for each in fitting if len(each.question.story) <= longest]
        if fitting:
            longer = max(fitting[:20], key=lambda each: len(each.question.story))
            _draw_one(longer, folder / f"attention-{task:02d}.png")


def _draw_one(answered: Answered, path: Path) -> None:
    weights = answered.weights
    assert weights is not None
    story = answered.question.story[-weights.shape[1] :]
    figure = Figure(figsize=(1.5 + 0.5 * len(weights) + 4, 1.4 + 0.26 * len(story)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(weights.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    first = len(answered.question.story) - len(story)
    marks = ["*" if place + first in answered.question.facts else " " for place in range(len(story))]
    lines = [f"{' '.join(sentence)} {mark}" for sentence, mark in zip(story, marks, strict=True)]
    axes.set_yticks(range(len(story)), lines, fontsize=8)
    axes.set_xticks(range(len(weights)), [f"hop {hop + 1}" for hop in range(len(weights))], fontsize=8)
    asked = f"task {answered.question.task}: {' '.join(answered.question.question)}?"
    said = f"{answered.answer} ({answered.confidence:.0%}), right: {answered.question.answer}"
    axes.set_title(f"{asked}\n{said}", fontsize=9, loc="right")
    figure.savefig(path, dpi=120)


def write_wrong_answers(answered: Sequence[Answered], path: Path, of_each_task: int = 5) -> None:
    """Write wrongly answered questions with their stories, some per task; a star marks a supporting fact."""
    parts = []
    for task, title in TASKS.items():
        own = [each for each in answered if each.question.task == task]
        wrong = [each for each in own if not each.right]
        parts.append(f"== task {task}, {title}: {len(wrong)} of {len(own)} wrong ==\n")
        parts += map(written, wrong[:of_each_task])
    path.write_text("\n".join(parts), "utf-8")


def written(answered: Answered) -> str:
    """A question with its story, as text."""
    question = answered.question
    lines = [
        f"{'*' if place in question.facts else ' '} {' '.join(told)}."
        for place, told in enumerate(question.story)
    ]
    asked = f"  {' '.join(question.question)}?"
    said = f"  said {answered.answer} ({answered.confidence:.0%}), right is {question.answer}"
    return "\n".join([*lines, asked, said, ""])
