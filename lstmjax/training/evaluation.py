"""Metrics over the batches of a data set."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lstmjax.metrics import Mean
from lstmjax.training.parallel import Placement, placement_of
from lstmjax.training.task import Batch, Carry, Metrics, Task
from lstmjax.types import Params


def evaluate(
    task: Task, params: Params, batches: Iterable[Batch], carry: Carry | None = None
) -> dict[str, float]:
    """Metrics over batches in order; sums are accumulated in float64 and divided once. Empty without batches.

    The first batch begins with ``carry``, by default the task's initial one. Of several models, the mean.
    """
    return _means(evaluate_each(task, params, batches, carry))


def evaluate_each(
    task: Task, params: Params, batches: Iterable[Batch], carry: Carry | None = None
) -> dict[str, np.ndarray]:
    """As `evaluate`, of each model: float64 ``[models]``, or ``[]`` where the metric has no such axis."""

    def each() -> Iterator[Metrics]:
        place = placement_of(params, task.models)
        following = place.rows(task.initial_evaluation_carry() if carry is None else carry)
        for batch in batches:
            following, metrics = _evaluate(task.evaluate, place, params, following, place.rows(batch))
            yield metrics

    return compute_each(each())


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(
    function: Callable[..., Any], place: Placement, params: Params, carry: Carry, batch: Batch
) -> Any:
    following, metrics = function(params, carry, batch)
    return following, place.everywhere(metrics)


Sums = Mapping[str, Sequence[Any]]
"""Sums of metrics by name, as JSON has them: total and weight, each a number, or a list of one per model."""


def compute(metrics: Iterable[Metrics], before: Sums | None = None) -> dict[str, float]:
    """Merge the metrics of batches, and compute each; of several models, the mean.

    Args:
      metrics: of each batch.
      before: the sums of those before, by `sums_of`; computed in parts, the result has the same bits.
    """
    return _means(compute_each(metrics, before))


def compute_each(metrics: Iterable[Metrics], before: Sums | None = None) -> dict[str, np.ndarray]:
    """As `compute`, of each model: float64 ``[models]``, or ``[]`` where the metric has no such axis."""
    merged = _merge(metrics, before or {})  # which may compute metrics, and not in float64
    with jax.enable_x64(True):  # in float32, 950 of 1000 is less than 0.95
        return {name: np.asarray(total.compute()) for name, total in merged.items()}


def sums_of(metrics: Iterable[Metrics], before: Sums) -> Sums:
    """Merge the metrics of batches with the sums of those before."""
    merged = _merge(metrics, before)
    return {**before, **{name: [np.asarray(part).tolist() for part in merged[name]] for name in merged}}


def _merge(metrics: Iterable[Metrics], before: Sums) -> dict[str, Mean]:
    totals: dict[str, Mean] = {}
    for each in metrics:
        for name, metric in jax.tree.map(np.float64, jax.device_get(dict(each))).items():
            if name not in totals and name in before:
                totals[name] = type(metric)(*map(np.float64, before[name]))
            totals[name] = totals[name].merge(metric) if name in totals else metric
    return totals


def _means(figures: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in figures.items()}
