"""Statistics: the variants against the whole LSTM."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.common import models
from experiments.gate_ablation import search
from experiments.gate_ablation.search import Trials
from lstmjax.training.record import Record, RecordError


class Sample(NamedTuple):
    """Size, mean and sample standard deviation of a sample."""

    mean: float
    deviation: float
    size: float


def retrained(record: Record) -> Sample:
    """The test figures of the networks with the best settings."""
    metrics = record.metrics
    return Sample(metrics["test_nll"], metrics["test_nll_std"], record.config["seeds"])


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


class Paired(NamedTuple):
    """The trials of a variant against those of the whole LSTM with the same settings."""

    median: float
    """Of the differences of their test figures; above 0 the variant is worse."""
    worse: int
    """In how many of the pairs the variant is worse."""
    pairs: int
    p: float
    """Of Wilcoxon's signed-rank test, two-sided."""


def paired(one: Trials, other: Trials) -> Paired:
    """Compare the trials of two searches, pair by pair.

    Raises:
      RecordError: the settings are not the same.
    """
    same = [np.array_equal(first, second) for first, second in zip(one.settings, other.settings, strict=True)]
    if not all(same):
        raise RecordError("the searches are not of the same settings: run all variants with one seed.")
    differences = np.asarray(one.test_nll, np.float64) - np.asarray(other.test_nll, np.float64)
    p = float(stats.wilcoxon(differences).pvalue)
    return Paired(float(np.median(differences)), int((differences > 0).sum()), len(differences), p)
