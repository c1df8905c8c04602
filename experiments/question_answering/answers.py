"""Outputs of readers: sums for metrics, and the answer to each question."""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.datasets.babi import TASKS, Question
from experiments.question_answering import page
from experiments.question_answering.data import Language
from experiments.question_answering.model import Reading
from experiments.question_answering.pictures import Answered
from experiments.question_answering.side_by_side import SideBySide
from lstmjax import losses
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.types import Key, Params


def figures_of(
    model: Functional, facts: bool, params: Params, batch: Any, key: Key | None
) -> dict[str, Mean]:
    """The sums of one reader's losses and errors, and of its correct answers for each task."""
    reading: Reading = model.bind(params)(batch, key)
    asked = batch.tasks > 0
    right = known_answers(reading).argmax(axis=-1) == batch.answers
    sums = {
        "nll": Mean.of(losses.cross_entropy(reading.logits, batch.answers, asked), asked),
        "error": Mean.of(~right, asked),
    }
    if facts:
        sums["facts_nll"] = facts_loss(reading.weights, batch.facts)
    return sums | {page.metric(task): Mean.of(right, batch.tasks == task) for task in TASKS}


def known_answers(reading: Reading) -> jax.Array:
    """Probabilities of the answers, with ``<unk>``, class 0, excluded."""
    return jax.nn.softmax(reading.logits.at[:, 0].set(-jnp.inf))


def facts_loss(weights: Any, facts: Any) -> Mean:
    """Negative log attention weight of the supporting facts: one fact for each of the first hops."""
    hops = min(weights.shape[1], facts.shape[1])
    seen = jnp.take_along_axis(weights[:, :hops], jnp.maximum(facts[:, :hops, None], 0), axis=-1)[..., 0]
    return Mean.of(-jnp.log(seen + 1e-6), facts[:, :hops] >= 0)


def answers_of(
    model: Functional, params: Params, language: Language, batches: SideBySide[Question]
) -> list[Answered]:
    """The readers' answers to all questions of their data sets."""
    read = jax.jit(lambda params, batch: _told(model, params, batch))
    place = {
        reader: (number, row)
        for number, group in enumerate(batches.groups)
        for row, reader in enumerate(group)
    }
    lots = {reader: batches.items(reader) for reader in place}
    found = []
    for groups in batches.once():
        for reader, (number, row) in place.items():
            own, batch = jax.tree.map(lambda leaf: leaf[reader], params), groups[number]  # noqa: B023
            told = jax.device_get(read(own, jax.tree.map(lambda leaf: leaf[row], batch)))  # noqa: B023
            found += [
                _answered(told, line, question, language) for line, question in enumerate(next(lots[reader]))
            ]
    return found


def _told(model: Functional, params: Params, batch: Any) -> Any:
    reading: Reading = model.bind(params)(batch)
    probabilities = known_answers(reading)
    lengths = None if reading.weights is None else batch.story_lengths
    return probabilities.argmax(axis=-1), probabilities.max(axis=-1), reading.weights, lengths


def _answered(told: Any, line: int, question: Question, language: Language) -> Answered:
    answers, confidences, weights, lengths = told
    seen = None if weights is None else weights[line, :, : lengths[line]]
    return Answered(question, language.answers.tokens[answers[line]], float(confidences[line]), seen)
