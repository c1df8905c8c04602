"""The readers and the training task for a config; loading saved readers."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import datasets
from experiments.common import mapped, models
from experiments.common.text.vocabulary import Vocabulary
from experiments.datasets.babi import TASKS, Question
from experiments.question_answering import answers, side_by_side
from experiments.question_answering.config import Config
from experiments.question_answering.data import Language, Sentences, Sequences
from experiments.question_answering.model import Architecture, AttentiveReader, SequenceReader
from experiments.question_answering.side_by_side import SideBySide
from lstmjax import training
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional, functional
from lstmjax.types import Key, Params

Collate = Sentences | Sequences


def make_collate(config: Config, language: Language) -> Collate:
    """The collate function of the config's model."""
    if config.model == "lstm":
        return Sequences(language, config.longest)
    return Sentences(language, config.memory)


def make_model(config: Config, language: Language) -> Functional:
    """One reader, of the config's architecture."""
    sizes = {name: getattr(config, name) for name in Architecture._fields if hasattr(config, name)}
    numbers = Architecture(words=len(language.words), answers=len(language.answers), **sizes)
    return functional(
        functools.partial({"attention": AttentiveReader, "lstm": SequenceReader}[config.model], numbers)
    )


def make_batches(
    config: Config, collate: Collate, parts: datasets.Splits[Question]
) -> tuple[SideBySide[Question], ...]:
    """The batches of all readers for each split, with bucket bounds from the training split."""
    by_reader = [[list(part)] for part in parts]
    if config.readers == "single":
        by_reader = [[[each for each in part if each.task == task] for task in TASKS] for part in parts]
    lengths = [[[collate.length(each) for each in own] for own in sets] for sets in by_reader]
    bounds = []
    for reader, own in enumerate(lengths[0]):
        most = max(length for sets in lengths for length in sets[reader])
        bounds.append(side_by_side.quantiles(own, config.shares, most))
    groups = side_by_side.by_length([float(np.mean(own)) for own in lengths[0]], config.groups)
    rest = (config.batch_size, bounds, groups)
    return tuple(SideBySide(sets, collate.length, collate, *rest) for sets in by_reader)


def make_task(
    config: Config, model: Functional, train_set: SideBySide, valid_set: SideBySide
) -> training.Task:
    """The training task: the sum of the readers' losses, and the errors of all on the validation set."""
    readers = functools.partial(answers.figures_of, model, config.supervision == "facts")

    def loss(params: Params, batches: Any, key: Key) -> tuple[jax.Array, training.Metrics]:
        found = side_by_side.apply(readers, params, train_set.groups, batches, key)
        names = [name for name in found[0] if name in ("nll", "facts_nll")]
        total = sum(
            (each[name].total / jnp.maximum(each[name].weight, 1)).sum() for each in found for name in names
        )
        return total, {name: _total(found, name) for name in (*names, "error")}

    def valid() -> Iterator[Any]:
        return valid_set.once() if any(valid_set.sets) else iter(())

    return training.Task.plain(
        init=mapped.init(model, len(train_set.sets)),
        loss=loss,
        batch=train_set.at,
        evaluate=functools.partial(evaluate, readers, train_set.groups),
        valid=valid,
        monitor="error",
    )


def evaluate(
    readers: Any, groups: Sequence[side_by_side.Group], params: Params, batches: Any
) -> training.Metrics:
    """The metrics of all readers combined."""
    found = side_by_side.apply(readers, params, groups, batches)
    return {name: _total(found, name) for name in found[0]}


def _total(found: Sequence[dict[str, Mean]], name: str) -> Mean:
    sums = [jax.tree.map(jnp.sum, each[name]) for each in found]
    return functools.reduce(Mean.merge, sums)


def limited(questions: Sequence[Question], limit: int) -> tuple[Question, ...]:
    """The first ``limit`` questions of each task; all if it is 0."""
    if not limit:
        return tuple(questions)
    return tuple(each for task in TASKS for each in [each for each in questions if each.task == task][:limit])


WORDS, ANSWERS = "words.json", "answers.json"
"""Files in a model's folder: the vocabularies of words and answers, in order."""


def save_language(folder: Path, language: Language) -> None:
    """Write the vocabularies of words and answers."""
    language.words.save(folder / WORDS)
    language.answers.save(folder / ANSWERS)


class Saved(NamedTuple):
    """The saved readers of a run."""

    config: Config
    language: Language
    model: Functional
    params: Params


def load_model(folder: Path) -> Saved:
    """Load readers, from a folder that `models.Source` gives."""
    config = models.config_of(folder, Config)
    language = Language(Vocabulary.load(folder / WORDS), Vocabulary.load(folder / ANSWERS))
    model = make_model(config, language)
    readers = len(TASKS) if config.readers == "single" else 1
    params = models.load_params(folder, mapped.init(model, readers))
    return Saved(config, language, model, params)
