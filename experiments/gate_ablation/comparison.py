"""Statistics: the variants against the whole LSTM."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.common import models
from experiments.gate_ablation import search
from experiments.gate_ablation.model import VARIANTS
from experiments.gate_ablation.search import Trials
from lstmjax.training.record import Record, RecordError


class Sample(NamedTuple):
    """Size, mean and sample standard deviation of a sample."""

    mean: float
    deviation: float
    size: int


def retrained(record: Record) -> Sample:
    """The test figures of the networks with the best settings."""
    metrics = record.metrics
    return Sample(metrics["test_nll"], metrics["test_nll_std"], record.config["seeds"])


def welch(one: Sample, other: Sample) -> float:
    """The two-sided p-value of Welch's t-test, of samples whose variances may differ."""
    result = stats.ttest_ind_from_stats(
        one.mean, one.deviation, one.size, other.mean, other.deviation, other.size, equal_var=False
    )
    return float(result.pvalue)


def by_variant(records: Sequence[Record]) -> dict[str, Record]:
    """The records by variant, in the order of the paper."""
    found = {record.config["variant"]: record for record in records}
    return {variant: found[variant] for variant in VARIANTS if variant in found}


def load_searches(records: Mapping[str, Record]) -> dict[str, Trials]:
    """The trials that are kept with records, by variant."""
    return {
        variant: search.load(models.kept("gate_ablation", record.label))
        for variant, record in records.items()
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


class Correlation(NamedTuple):
    """Spearman's rank correlation, and its two-sided p-value."""

    rho: float
    p: float


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


def rank_correlations(searches: Iterable[Trials]) -> dict[str, Correlation]:
    """Of each hyperparameter with the validation figure, the mean over searches of the same settings."""
    searches = list(searches)
    figures = np.mean([trials.valid_nll for trials in searches], axis=0)
    found = {}
    for name, values in searches[0].settings._asdict().items():
        result = stats.spearmanr(values, figures)
        found[name] = Correlation(float(result.statistic), float(result.pvalue))
    return found
