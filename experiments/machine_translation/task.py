"""The model and the training task for a config; loading a saved model."""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from experiments.common import models
from experiments.machine_translation import report
from experiments.machine_translation.config import Config
from experiments.machine_translation.data import Bitext, Vocabularies, pair_batches
from experiments.machine_translation.decode import Saved, translate_all
from experiments.machine_translation.model import (
    Architecture,
    Search,
    Translator,
    evaluate_pairs,
    pair_losses,
)
from experiments.machine_translation.report import Translations
from lstmjax import training
from lstmjax.nnx import Functional, functional
from lstmjax.training.batching import PairBatches, Pairs
from lstmjax.types import Key, Params


def make_model(config: Config, vocabularies: Vocabularies) -> Functional:
    """The model of a config."""
    architecture = Architecture(
        source_vocabulary=len(vocabularies.source),
        target_vocabulary=len(vocabularies.target),
        joint=config.joint,
        embedding=config.embedding,
        hidden=config.hidden,
        layers=config.layers,
        attention=config.attention,
        input_feeding=config.input_feeding,
        dropout=config.dropout,
    )
    return functional(functools.partial(Translator, architecture))


class TrainingBatch(NamedTuple):
    """The input of a training step."""

    pairs: Pairs
    own_rate: np.ndarray
    """Scalar: the rate at which the decoder is fed its own likeliest subword."""


def make_task(
    config: Config, settings: training.TrainConfig, saved: Saved, batches: PairBatches, valid: Bitext
) -> training.Task:
    """The training task; the selection criterion is the BLEU of greedy translations of the validation set."""
    model, smoothing, samples = saved.model, config.label_smoothing, config.scheduled_sampling > 0

    def loss(params: Params, batch: TrainingBatch, key: Key) -> tuple[jax.Array, training.Metrics]:
        own_rate = batch.own_rate if samples else 0.0
        nll, uniform = pair_losses(model, params, batch.pairs, key, own_rate)
        return (1 - smoothing) * nll.compute() + smoothing * uniform.compute(), {"nll": nll}

    def batch(seed: int, step: int) -> TrainingBatch:
        rate = config.scheduled_sampling * step / max(settings.steps, 1)
        return TrainingBatch(batches.at(seed, step), np.asarray(rate, np.float32))

    def examine(params: Params) -> dict[str, float]:
        hypotheses = translate_all(saved._replace(params=params), valid.sources, Search(beams=1))
        return {"bleu": report.bleu(Translations(*valid, hypotheses))}

    validation = pair_batches(config, saved.vocabularies, valid)
    return training.Task.plain(
        init=model.init,
        loss=loss,
        batch=batch,
        evaluate=functools.partial(evaluate_pairs, model),
        valid=validation.once,
        monitor="-bleu",
        examine=examine,
    )


def load_model(folder: Path) -> Saved:
    """Load a model, from a folder that `models.Source` gives."""
    config, vocabularies = models.config_of(folder, Config), Vocabularies.load(folder)
    model = make_model(config, vocabularies)
    return Saved(vocabularies, model, models.load_params(folder, model.init))
