"""The training task, captions of pictures, and loading of models."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.common import models
from experiments.common.text.vocabulary import Vocabulary
from experiments.datasets.captioned import Captioned, Pictures
from experiments.image_captioning import metrics
from experiments.image_captioning.config import Config
from experiments.image_captioning.data import END, Batch, Batches, middle, stacked, words
from experiments.image_captioning.model import (
    Architecture,
    Search,
    describe,
    doubly_stochastic_penalty,
    make_model,
    mean_regions,
)
from lstmjax import training
from lstmjax.losses import cross_entropy
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.training.record import read_json
from lstmjax.types import Key, Params

ROWS = 50
"""Most pictures that are described in one batch."""

VOCABULARY, ARCHITECTURE = "vocabulary.json", "architecture.json"
"""Files in a model's folder."""


class Saved(NamedTuple):
    """A captioner with what it needs."""

    config: Config
    vocabulary: Vocabulary
    architecture: Architecture
    params: Params

    @property
    def model(self) -> Functional:
        """Its functions."""
        return make_model(self.architecture)


def architecture_of(config: Config, vocabulary: Vocabulary, shape: tuple[int, ...]) -> Architecture:
    """The architecture of a config, for pictures ``[side, side, 3]`` or features ``[regions, features]``."""
    regions, features = shape if len(shape) == 2 else ((-(-config.crop // 8)) ** 2, 0)
    return Architecture(
        vocabulary=len(vocabulary),
        hidden=config.hidden,
        embedding=config.embedding,
        channels=config.channels,
        features=features,
        regions=regions,
        attends=config.model == "attention",
        dropout=config.dropout,
        contours=config.contours,
    )


def losses(model: Functional, params: Params, batch: Batch, key: Key | None = None) -> tuple[Mean, jax.Array]:
    """The mean negative log-likelihood of a word, and the sum of the doubly stochastic penalties."""
    targets, lengths = jnp.asarray(batch.captions.values), jnp.asarray(batch.captions.lengths)
    logits, weights = model.bind(params).teach(batch.pictures, targets, key)
    mask = jnp.arange(targets.shape[1]) < lengths[:, None]
    penalties = doubly_stochastic_penalty(weights, mask)
    return Mean.of(cross_entropy(logits, targets, mask), mask), jnp.where(lengths > 0, penalties, 0).sum()


def make_task(saved: Saved, train: Batches, valid: Batches, pictures: Sequence[Captioned]) -> training.Task:
    """The training task; the selection criterion is the negative log-likelihood of a word in validation."""
    model, weight = saved.model, saved.config.penalty * saved.architecture.attends

    def loss(params: Params, batch: Batch, key: Key) -> tuple[jax.Array, training.Metrics]:
        nll, penalty = losses(model, params, batch, key)
        return nll.compute() + weight * penalty / nll.weight, {"nll": nll}

    def evaluate(params: Params, batch: Batch) -> training.Metrics:
        return {"nll": losses(model, params, batch)[0]}

    def examine(params: Params) -> dict[str, float]:
        found = score(saved._replace(params=params), pictures)
        return {name: found[name] for name in ("cider", "bleu4", "exact")}

    return training.Task.plain(
        init=model.init,
        loss=loss,
        batch=train.at,
        evaluate=evaluate,
        valid=valid.once,
        examine=examine,
    )


def caption(saved: Saved, pictures: np.ndarray | Pictures, beams: int | None = None) -> list[list[str]]:
    """Captions of pictures ``[pictures, side, side, 3]``, or of features, as words."""
    config = saved.config
    search = Search(beams or config.beams, config.length_penalty, config.longest)
    tokens = _batched(lambda rows: describe(saved.model, saved.params, rows, search), saved, pictures)
    return [saved.vocabulary.decode(row[row != END]) for row in tokens]


def encoded(saved: Saved, pictures: np.ndarray | Pictures) -> Float[np.ndarray, "pictures features"]:
    """The mean region of each picture."""
    return _batched(lambda rows: mean_regions(saved.model, saved.params, rows), saved, pictures)


def _batched(
    function: Callable[[np.ndarray], jax.Array], saved: Saved, pictures: np.ndarray | Pictures
) -> np.ndarray:
    """A function of pictures, of their middles, in batches that are filled up to one size."""
    size, found = min(ROWS, len(pictures)), []
    for start in range(0, len(pictures), size):
        rows = middle(pictures[start : start + size], saved.config.crop)
        filled = np.pad(rows, [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1))
        found.append(np.asarray(function(filled))[: len(rows)])
    return np.concatenate(found)


def references(part: Sequence[Captioned]) -> list[list[list[str]]]:
    """The words of all captions of pictures."""
    return [[words(text) for text in each.captions] for each in part]


def score(saved: Saved, part: Sequence[Captioned]) -> dict[str, float]:
    """The metrics of a captioner on pictures."""
    return metrics.figures(caption(saved, stacked(part)), references(part))


def save(saved: Saved, folder: Path) -> None:
    """Write what a model's folder has beside config and parameters: vocabulary and architecture."""
    saved.vocabulary.save(folder / VOCABULARY)
    about = json.dumps(saved.architecture._asdict(), indent=2)
    (folder / ARCHITECTURE).write_text(about + "\n", "utf-8")


def load_model(folder: Path) -> Saved:
    """Load a captioner, from a folder that `models.Source` gives."""
    config, vocabulary = models.config_of(folder, Config), Vocabulary.load(folder / VOCABULARY)
    about = read_json(folder / ARCHITECTURE)
    architecture = Architecture(**about | {"channels": tuple(about["channels"])})
    params = models.load_params(folder, make_model(architecture).init)
    return Saved(config, vocabulary, architecture, params)
