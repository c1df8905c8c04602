"""The training task, networks side by side on windows of their own, and their forecasts."""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import mapped, models
from experiments.seasonal_sales.config import Config
from experiments.seasonal_sales.model import make_model, quantile_loss
from experiments.seasonal_sales.panel import Panel, Windows, cut, load_panel
from lstmjax import training
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional
from lstmjax.types import Key, Params

ROWS = 256
"""Windows that are forecast at once."""


def make_task(panel: Panel, model: Functional, networks: int, batch_size: int) -> training.Task:
    """The task of several networks: the sum of their quantile losses, of logarithms."""

    def one(params: Params, windows: Windows) -> jax.Array:
        loss = quantile_loss(model.bind(params)(windows), jnp.asarray(windows.targets))
        return Mean.of(loss * windows.scale[:, None], jnp.asarray(windows.known)).compute()

    def loss(params: Params, windows: Windows, key: Key) -> tuple[jax.Array, training.Metrics]:
        losses = jax.vmap(one)(params, windows)
        return losses.sum(), {"quantile_loss": Mean.of(losses)}

    return training.Task.plain(
        init=mapped.init(model, networks),
        loss=loss,
        batch=functools.partial(draw, panel, networks, batch_size),
        evaluate=lambda params, batch: {},
        valid=lambda: (),
        models=networks,
    )


def draw(panel: Panel, networks: int, batch_size: int, seed: int, step: int) -> Windows:
    """The windows of a step, ``[networks, batch_size, ...]``: each of any series, from any origin.

    Half of the horizon at least is before the part that is held out, of which nothing is read.
    """
    rng, setting = np.random.default_rng((seed, step)), panel.setting
    series = rng.integers(len(panel.series), size=networks * batch_size)
    last = panel.ends[series] - (setting.horizon + 1) // 2
    first = np.minimum(setting.shortest, np.maximum(last, 1))
    windows = cut(panel.seen, series, rng.integers(first, np.maximum(last, first) + 1))
    return jax.tree.map(lambda leaf: leaf.reshape(networks, batch_size, *leaf.shape[1:]), windows)


def forecast(
    panel: Panel, model: Functional, params: Params, series: np.ndarray, origin: np.ndarray
) -> np.ndarray:
    """The quantiles of each network, in the units of the series: ``[models, rows, horizon, quantiles]``."""

    @jax.jit
    def run(params: Params, windows: Windows) -> jax.Array:
        return jax.vmap(lambda each: model.bind(each)(windows))(params)

    found = []
    for begin in range(0, len(series), ROWS):
        windows = cut(panel, series[begin : begin + ROWS], origin[begin : begin + ROWS])
        logs = np.asarray(run(params, windows), np.float64)
        found.append(_in_units(logs, windows))
    return np.concatenate(found, axis=1)


def _in_units(logs: np.ndarray, windows: Windows) -> np.ndarray:
    """Standardized quantiles, in ascending order, in the units of the series."""
    return np.exp(np.sort(logs, axis=-1) * windows.scale[:, None, None] + windows.unit[..., None])


class Saved(NamedTuple):
    """Trained networks, and the series that they forecast."""

    config: Config
    panel: Panel
    model: Functional
    params: Params
    """With a leading axis of networks."""


def load_model(folder: Path, data_dir: Path | None = None) -> Saved:
    """Load networks, from a folder that `models.Source` gives, and the data set that they forecast."""
    config = models.config_of(folder, Config)
    panel = load_panel(config.dataset, config.held_out, data_dir, config.limit)
    model = make_model(config.model, panel.features, config.hidden, config.layers, panel.setting.horizon)
    return Saved(config, panel, model, models.load_params(folder, mapped.init(model, config.models)))
