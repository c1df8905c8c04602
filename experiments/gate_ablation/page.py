"""The results page: the variants side by side, tested against the whole LSTM, and what the paper found."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.common.experiment import Page
from experiments.common.tables import Row, commands, minutes, spread_of, table
from experiments.gate_ablation.comparison import (
    Paired,
    by_variant,
    load_searches,
    paired,
    rank_correlations,
    retrained,
    welch,
)
from experiments.gate_ablation.model import VARIANTS
from experiments.gate_ablation.search import Trials
from lstmjax.training.record import Record

SIGNIFICANT = 0.05

PAPER = {
    "nfg": "critical",
    "noaf": "critical",
    "cifg": "does not hurt significantly",
    "np": "does not hurt significantly",
}
"""What abstract and conclusion of Greff et al. say of leaving it out or changing it."""

INTRODUCTION = """\
What does an LSTM need? Greff et al. 2017 ("LSTM: A Search Space Odyssey", arXiv:1503.04069) left out or
changed one part at a time, searched anew for the hyperparameters of each variant, and compared the best. Here
the same nine variants predict the next frame of JSB Chorales, one of their three tasks; `lstmjax.lstm` has
each as an option."""

METHOD = """\
All trials of a variant's random search train side by side, as one program. Each draws the learning rate of
Adam log-uniformly from 0.003 to 0.1, 1 - momentum log-uniformly from 0.01 to 1, and the standard deviation of
the Gaussian noise on its inputs uniformly from 0 to 1, and keeps the parameters that are best on the
validation set. All variants try the same settings. `retrained` are five new networks with the settings of the
trial that is best on the validation set; they differ in their initial parameters, and see the same batches
and noise. `best quarter` is of the trials that are best there. Figures are nats per frame on the test set,
frames 2 to T: mean (least to most). Minutes are of one core, which other work shared.

The paper searched much longer, with 200 trials a variant, and trained by stochastic gradient descent. Here
all networks have 32 units and train for 14 epochs, on pieces of at most 65 frames; number of epochs and range
of the learning rate were set by the validation figures of V in trials. A first search, of 12 trials of 24
units over 8 epochs, had read the test set before; nothing was chosen by it but to search longer. Larger
networks, trained longer, give better figures (`jsb-lstm` of `polyphonic_music`). So what compares with the
paper is which parts matter, not the figures."""

TESTS = """\
Two tests compare each variant with V. `retrained` has the difference of the means and the p-value of Welch's
t-test: of each variant at its best. `pairs` has the trials of both with the same settings, good and bad ones:
the median of the differences, how many trials of the variant are worse, and the p-value of Wilcoxon's
signed-rank test. With eight variants and two tests, a p-value just below 0.05 may well be chance."""

SEEN = """\
In short: at its best, an LSTM without forget gate is by far the worst, as in the paper; coupled gates and no
peepholes cost nothing, as in the paper. Full gate recurrence costs a little, for half as many parameters
more. Against the paper, the output activation function hardly matters here: it may be that cell states do not
grow enough over pieces of 65 frames to need it, but that is a guess. Over all settings, most of which have
too much noise, the forget gate does not show: noise hides what there is to remember. What the noise on the
inputs does is larger than any difference but that one; that the learning rate does not show may be due to its
narrow range."""

HYPERPARAMETERS = """\
Spearman's rank correlation of each hyperparameter with the validation figure of the trials, the mean over the
variants: above 0, more is worse. It sees what rises or falls, not what is best in the middle. (The paper used
functional ANOVA, and found the hyperparameters virtually independent.)"""


class Compared(NamedTuple):
    """A variant against the whole LSTM."""

    difference: float
    """Of the means of the retrained networks; above 0 the variant is worse."""
    p: float
    pairs: Paired | None
    """None if a search is not kept."""


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    own = by_variant(records)
    searches = load_searches(own)
    parts = ["# Gate ablation", INTRODUCTION]
    if own:
        parts += ["## The variants", METHOD, _figures(own), commands(list(own.values()))]
        parts.append("![The variants side by side](pictures/variants.png)")
    missing = [f"{variant.upper()}, {VARIANTS[variant].title}" for variant in VARIANTS if variant not in own]
    if own and missing:
        parts.append(f"Not recorded yet: {'; '.join(missing)}.")
    if "v" in own and len(own) > 1:
        parts += ["## What matters", TESTS, *_findings(compare(own, searches))]
    if searches:
        parts += ["## The hyperparameters", HYPERPARAMETERS, _correlations(searches)]
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(parts) + "\n"


def _figures(own: Mapping[str, Record]) -> str:
    rows = [["variant", "retrained", "best trial", "best quarter", "parameters", "minutes"]]
    for variant, record in own.items():
        rows.append(
            [
                f"**{variant.upper()}**: {VARIANTS[variant].title}",
                spread_of(record, "test_nll", 2),
                f"{record.metrics['best_test_nll']:.2f}",
                spread_of(record, "top_test_nll", 2),
                f"{record.metrics['parameters']:,.0f}",
                minutes([record]),
            ]
        )
    return table(rows)


def compare(own: Mapping[str, Record], searches: Mapping[str, Trials]) -> dict[str, Compared]:
    """Each variant against the whole LSTM, the worst first."""
    found, whole = {}, retrained(own["v"])
    for variant in own.keys() - {"v"}:
        one = retrained(own[variant])
        kept = variant in searches and "v" in searches
        pairs = paired(searches[variant], searches["v"]) if kept else None
        found[variant] = Compared(one.mean - whole.mean, welch(one, whole), pairs)
    return dict(sorted(found.items(), key=lambda item: -item[1].difference))


def _findings(found: Mapping[str, Compared]) -> list[str]:
    rows = [["variant", "the paper", "retrained", "p", "pairs, median", "worse in", "p"]]
    for variant, each in found.items():
        pairs = ["", "", ""]
        if each.pairs is not None:
            worse = f"{each.pairs.worse} of {each.pairs.pairs}"
            pairs = [f"{each.pairs.median:+.2f}", worse, _p(each.pairs.p)]
        paper = PAPER.get(variant, "")
        rows.append([variant.upper(), paper, f"{each.difference:+.2f}", _p(each.p), *pairs])
    of_retrained = {name: (each.difference, each.p) for name, each in found.items()}
    of_pairs = {name: (each.pairs.median, each.pairs.p) for name, each in found.items() if each.pairs}
    there = (
        "The paper says, of three tasks together, that no variant improves on the LSTM significantly; that "
        "forget gate and output activation function are its most critical parts; and that coupled gates or "
        "no peepholes do not hurt it significantly."
    )
    here = (
        f"Here, on one of these tasks, p is below {SIGNIFICANT} for: {_significant(of_retrained)} among "
        f"the retrained networks; {_significant(of_pairs)} among the pairs. From the worst to the best, "
        "differences in nats per frame:"
    )
    return [there, here, table(rows), SEEN]


def _significant(found: Mapping[str, tuple[float, float]]) -> str:
    """Which variants differ significantly, and how, from their differences and p-values."""
    chosen = {name: difference for name, (difference, p) in found.items() if p < SIGNIFICANT}
    said = [f"{name.upper()} ({'worse' if chosen[name] > 0 else 'better'})" for name in chosen]
    return ", ".join(said) or "no variant"


def _correlations(searches: Mapping[str, Trials]) -> str:
    rows = [["hyperparameter", "rank correlation", "p"]]
    for name, each in rank_correlations(searches.values()).items():
        rows.append([name.replace("_", " "), f"{each.rho:+.2f}", _p(each.p)])
    return table(rows)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def results(records: Sequence[Record]) -> list[Row]:
    """Rows of the README's table of results: the whole LSTM, and the variants that the paper speaks of."""
    own = {record.config["variant"]: record for record in records}
    rows = []
    for variant in ("v", *PAPER):
        if variant in own:
            claim = f"{PAPER[variant]} (Greff et al. 2017)" if variant in PAPER else ""
            ours = spread_of(own[variant], "test_nll", 2)
            rows.append(
                Row("JSB Chorales", own[variant].label, "nats per frame", claim, ours, [own[variant]])
            )
    return rows


PAGE = Page(page, results)
