"""The results page: the variants side by side, tested against the whole LSTM, and what the paper found."""

from collections.abc import Callable, Mapping, Sequence

from experiments.common.experiment import Page
from experiments.common.tables import Row, commands, minutes, spread_of, table
from experiments.gate_ablation.comparison import Sample, explained, load_searches, retrained, top, welch
from experiments.gate_ablation.model import VARIANTS
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
validation set. `best quarter` is of the trials that are best there. `retrained` are new networks with the
settings of the best of all; they differ in their initial parameters, and see the same batches and noise.
Figures are nats per frame on the test set, frames 2 to T: mean (least to most). `p` is that of Welch's t-test
against V. The samples are small; of eight such tests one may well be below 0.05 by chance; and the best
quarter is no random sample.

The paper searched longer, with 200 trials a variant, and trained by stochastic gradient descent. Here all
networks have 24 units and train for 8 epochs, on pieces of at most 65 frames; number of epochs and range of
the learning rate were set once, by the validation figures of V in trials. So what compares with the paper is
which parts matter, not the figures."""


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    own = {record.config["variant"]: record for record in records}
    own = {variant: own[variant] for variant in VARIANTS if variant in own}
    parts = ["# Gate ablation", INTRODUCTION]
    if own:
        parts += ["## The variants", METHOD, _figures(own), commands(list(own.values()))]
    if "v" in own and len(own) > 1:
        parts += ["## What the paper found", _findings(own)]
    searches = load_searches(list(own.values()))
    if searches:
        parts += [_picture(), "## What the hyperparameters explain", _explained(explained(searches))]
    parts.append("Built by `make pages` from the records in this folder.")
    return "\n\n".join(parts) + "\n"


def _figures(own: Mapping[str, Record]) -> str:
    rows = [
        ["variant", "retrained", "p", "best quarter", "p", "best trial", "trials", "parameters", "minutes"]
    ]
    for variant, record in own.items():
        rows.append(
            [
                f"**{variant.upper()}**: {VARIANTS[variant].title}",
                spread_of(record, "test_nll", 2),
                _p(own, variant, retrained),
                spread_of(record, "top_test_nll", 2),
                _p(own, variant, top),
                f"{record.metrics['best_test_nll']:.2f}",
                f"{record.metrics['trials']:.0f}",
                f"{record.metrics['parameters']:,.0f}",
                minutes([record]),
            ]
        )
    return table(rows)


def _p(own: Mapping[str, Record], variant: str, sample: Callable[[Record], Sample]) -> str:
    if variant == "v" or "v" not in own:
        return ""
    value = welch(sample(own[variant]), sample(own["v"]))
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def verdict(record: Record, whole: Record) -> str:
    """How the retrained networks of a variant compare with those of the whole LSTM, in words."""
    one, other = retrained(record), retrained(whole)
    difference = f"{one.mean - other.mean:+.2f} nats"
    if welch(one, other) >= SIGNIFICANT:
        return f"no significant difference ({difference})"
    return f"significantly {'worse' if one.mean > other.mean else 'better'} ({difference})"


def _findings(own: Mapping[str, Record]) -> str:
    changed = [variant for variant in own if variant != "v"]
    order = sorted(changed, key=lambda variant: -own[variant].metrics["test_nll"])
    better = [name for name in changed if verdict(own[name], own["v"]).startswith("significantly better")]
    rows = [["variant", "the paper", "retrained networks here"]]
    rows += [[name.upper(), PAPER.get(name, ""), verdict(own[name], own["v"])] for name in order]
    named = f"{', '.join(map(str.upper, better)) or 'no variant'} {'are' if len(better) > 1 else 'is'}"
    said = (
        "The abstract says, of three tasks together, that no variant improves on the LSTM significantly, and "
        "that forget gate and output activation function are its most critical parts; the conclusion, that "
        "coupling the gates or leaving out the peepholes does not hurt it significantly. Here, on one of "
        f"these tasks, {named} significantly better than V, and the two worst are "
        f"{' and '.join(map(str.upper, order[:2]))}. From the worst to the best:"
    )
    return f"{said}\n\n{table(rows)}"


def _picture() -> str:
    return "![The best quarter of the trials of each variant](pictures/variants.png)"


def _explained(shares: Mapping[str, float]) -> str:
    said = (
        "The share of the variance of the validation figure that each hyperparameter explains by itself, "
        "over the trials of all variants, relative to their means: omega squared of a one-way analysis "
        "of variance over six parts of equally many trials. It depends on the ranges that are searched. The "
        "paper used functional ANOVA (fANOVA) and found the hyperparameters virtually independent."
    )
    rows = [["hyperparameter", "share of variance"]]
    rows += [[name.replace("_", " "), f"{share:.0%}"] for name, share in shares.items()]
    return f"{said}\n\n{table(rows)}"


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
