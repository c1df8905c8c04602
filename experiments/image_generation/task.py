"""The training task: the variational bound, and the importance-weighted estimate of the likelihood."""

import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.common import models
from experiments.image_generation.config import Config
from experiments.image_generation.data import Batch, ImageBatches, log_odds
from experiments.image_generation.model import make_model
from lstmjax import training
from lstmjax.losses import bernoulli
from lstmjax.metrics import Mean
from lstmjax.training.task import WithoutCarry
from lstmjax.types import Array, Key, Params


def costs(
    config: Config, params: Params, images: Float[Array, "batch pixels"], key: Key
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """In nats and of each image, with one sample of z: reconstruction, KL, and the latter's estimate."""
    noise = jax.random.normal(key, (config.glimpses, len(images), config.latent))
    last, drawn = make_model(config).bind(params).reconstruct(images, noise)
    return bernoulli(last.canvas, images), drawn.kl.sum(axis=0), drawn.log_ratio.sum(axis=0)


def bound(config: Config, params: Params, batch: Batch, key: Key) -> training.Metrics:
    """The variational bound on the negative log-likelihood, and its two parts (equations 9 to 12)."""
    there, (reconstruction, kl, _) = jnp.asarray(batch.there), costs(config, params, batch.images, key)
    return {
        "bound_nats": Mean.of(reconstruction + kl, there),
        "reconstruction_nats": Mean.of(reconstruction, there),
        "kl_nats": Mean.of(kl, there),
    }


def importance(config: Config, params: Params, batch: Batch) -> training.Metrics:
    r"""The mean of `bound` over k samples, and :math:`-\log \frac{1}{k} \sum_k p(x, z_k) / q(z_k | x)`.

    Source: Burda, Grosse and Salakhutdinov 2016 (arXiv:1509.00519, equation 8).
    """
    keys = jax.random.split(jax.random.key(batch.seed), config.importance)
    reconstruction, kl, log_ratio = jax.lax.map(lambda key: costs(config, params, batch.images, key), keys)
    likelihood = jax.nn.logsumexp(-reconstruction - log_ratio, axis=0) - math.log(config.importance)
    there = jnp.asarray(batch.there)
    return {
        "bound_nats": Mean.of((reconstruction + kl).mean(axis=0), there),
        "iwae_nats": Mean.of(-likelihood, there),
        "reconstruction_nats": Mean.of(reconstruction.mean(axis=0), there),
        "kl_nats": Mean.of(kl.mean(axis=0), there),
    }


def make_task(config: Config, train: ImageBatches, valid: ImageBatches) -> training.Task:
    """The task: the bound; the first canvas begins with the log odds of the mean image.

    The weight of the KL grows in the first steps (Bowman et al. 2016, arXiv:1511.06349).
    """
    model, canvas = make_model(config), log_odds(train.brightness)

    def batch(seed: int, step: int) -> Batch:
        weight = min((step + 1) / max(config.kl_warmup, 1), 1)
        return train.at(seed, step)._replace(kl_weight=np.float32(weight))

    def loss(params: Params, batch: Batch, key: Key) -> tuple[jax.Array, training.Metrics]:
        metrics = bound(config, params, batch, key)
        kl = batch.kl_weight * metrics["kl_nats"].compute()
        return metrics["reconstruction_nats"].compute() + kl, metrics

    return training.Task.plain(
        init=lambda key: model.init(key) | {"canvas": jnp.asarray(canvas)},
        loss=loss,
        batch=batch,
        evaluate=lambda params, batch: bound(config, params, batch, jax.random.key(batch.seed)),
        valid=valid.once,
        monitor="bound_nats",
    )


def make_test(config: Config, task: training.Task) -> training.Task:
    """The task with the metrics of `importance`."""
    return dataclasses.replace(
        task, evaluate=WithoutCarry(lambda params, batch: importance(config, params, batch))
    )


def load_model(folder: Path) -> models.Saved[Config]:
    """Load a network, from a folder that `models.Source` gives."""
    return models.load(folder, Config, make_model)
