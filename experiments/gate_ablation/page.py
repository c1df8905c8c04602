"""The results page: the variants side by side, tested against the whole LSTM, and what the paper found."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.common.experiment import Page
from experiments.common.tables import Row, commands, minutes, spread_of, table
from experiments.gate_ablation.comparison import Paired, load_searches, paired, retrained, welch
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
validation set. All variants try the same settings. `retrained` are new networks with the settings of the
trial that is best on the validation set; they differ in their initial parameters, and see the same batches
and noise. `best quarter` is of the trials that are best there. Figures are nats per frame on the test set,
frames 2 to T: mean (least to most).

The paper searched much longer, with 200 trials a variant, and trained by stochastic gradient descent. Here
all networks have 24 units and train for 8 epochs, on pieces of at most 65 frames; number of epochs and range
of the learning rate were set once, by the validation figures of V in trials. Longer training of larger
networks gives better figures (`jsb-lstm` of `polyphonic_music`). So what compares with the paper is which
parts matter, not the figures."""

TESTS = """\
Two tests compare each variant with V. `retrained` has the difference of the means and the p-value of Welch's
t-test, the test of the paper, which took the best tenth of its trials. `pairs` has the trials of both with
the same settings, good and bad ones: the median of the differences, how many trials of the variant are worse,
and the p-value of Wilcoxon's signed-rank test. What is below 0.05 by both counts as significant; with eight
variants, one may be so by chance."""


class Compared(NamedTuple):
    """A variant against the whole LSTM."""

    difference: float
    """Of the means of the retrained networks; above 0 the variant is worse."""
    p: float
    pairs: Paired | None
    """None if a search is not kept."""

    @property
    def significant(self) -> bool:
        """Whether both tests say so, with differences in one direction."""
        agrees = self.pairs is not None and self.pairs.p < SIGNIFICANT
        return agrees and self.p < SIGNIFICANT and self.difference * self.pairs.median > 0


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    own = {record.config["variant"]: record for record in records}
    own = {variant: own[variant] for variant in VARIANTS if variant in own}
    searches = load_searches(list(own.values()))
    parts = ["# Gate ablation", INTRODUCTION]
    if own:
        parts += ["## The variants", METHOD, _figures(own), commands(list(own.values()))]
    if searches:
        parts.append("![The best quarter of the trials of each variant](pictures/variants.png)")
    if "v" in own and len(own) > 1:
        parts += ["## What matters", _findings(compare(own, searches))]
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


def _findings(found: Mapping[str, Compared]) -> str:
    rows = [["variant", "the paper", "retrained", "p", "pairs, median", "worse in", "p"]]
    for variant, each in found.items():
        pairs = ["", "", ""]
        if each.pairs is not None:
            worse = f"{each.pairs.worse} of {each.pairs.pairs}"
            pairs = [f"{each.pairs.median:+.2f}", worse, _p(each.pairs.p)]
        rows.append([variant.upper(), PAPER.get(variant, ""), f"{each.difference:+.2f}", _p(each.p), *pairs])
    worse = [name for name, each in found.items() if each.significant and each.difference > 0]
    better = [name for name, each in found.items() if each.significant and each.difference < 0]
    said = (
        "The paper's abstract says, of three tasks together, that no variant improves on the LSTM "
        "significantly, and that forget gate and output activation function are its most critical parts; "
        "its conclusions add that coupling the gates or leaving out the peepholes does not hurt "
        f"significantly. Here, on one of these tasks, significantly worse than V are: {_names(worse)}; "
        f"significantly better: {_names(better)}. From the worst to the best, differences in nats per frame:"
    )
    return f"{TESTS}\n\n{said}\n\n{table(rows)}"


def _names(variants: Sequence[str]) -> str:
    return ", ".join(map(str.upper, variants)) or "none"


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
