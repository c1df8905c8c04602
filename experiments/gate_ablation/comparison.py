"""Statistics of the searches: variants against the whole LSTM, and what each hyperparameter explains."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.common import models
from experiments.gate_ablation import search
from experiments.gate_ablation.search import Settings, Trials
from lstmjax.training.record import Record

BINS = 6
"""Parts of equally many trials, by the value of a hyperparameter."""


class Sample(NamedTuple):
    """Size, mean and sample standard deviation of a sample."""

    mean: float
    deviation: float
    size: float


def retrained(record: Record) -> Sample:
    """The test figures of the networks with the best settings."""
    return _sample(record, "test_nll", record.config["seeds"])


def top(record: Record) -> Sample:
    """The test figures of the best quarter of the trials."""
    return _sample(record, "top_test_nll", record.metrics["top_trials"])


def _sample(record: Record, metric: str, size: float) -> Sample:
    return Sample(record.metrics[metric], record.metrics[f"{metric}_std"], size)


def welch(one: Sample, other: Sample) -> float:
    """The two-sided p-value of Welch's t-test, of samples whose variances may differ."""
    return float(stats.ttest_ind_from_stats(*one, *other, equal_var=False).pvalue)


def load_searches(records: Sequence[Record]) -> dict[str, Trials]:
    """The trials that are kept with the records, by variant."""
    return {
        record.config["variant"]: search.load(models.kept("gate_ablation", record.label))
        for record in records
        if record.model
    }


def explained(searches: Mapping[str, Trials]) -> dict[str, float]:
    """The share of the variance of the validation figure that each hyperparameter explains by itself.

    The figures of each variant are taken relative to its mean, the trials of all variants together. Omega
    squared of a one-way analysis of variance over `BINS` parts: it does not count what chance explains.
    """
    figures = np.concatenate([trials.valid_nll - np.mean(trials.valid_nll) for trials in searches.values()])
    found = {}
    for name in Settings._fields:
        values = np.concatenate([getattr(trials.settings, name) for trials in searches.values()])
        parts = np.array_split(figures[np.argsort(values)], BINS)
        found[name] = omega_squared(parts)
    return found


def omega_squared(parts: Sequence[np.ndarray]) -> float:
    """The share of variance between parts, without what is expected by chance; 0 if it is less than that."""
    every = np.concatenate(parts)
    within = sum(np.square(part - part.mean()).sum() for part in parts)
    total, degrees = np.square(every - every.mean()).sum(), len(parts) - 1
    noise = within / (len(every) - len(parts))
    return float(max(total - within - degrees * noise, 0) / (total + noise))
