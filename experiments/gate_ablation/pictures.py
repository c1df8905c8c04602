"""Pictures: the trials of a search, and the best of all variants side by side."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.gate_ablation.model import VARIANTS
from experiments.gate_ablation.search import Trials, best_quarter
from lstmjax.training.record import Record


def draw_trials(trials: Trials, variant: str, path: Path) -> None:
    """Plot the validation figure of every trial over each hyperparameter."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    axis = {
        "learning rate": (trials.settings.learning_rate, "log"),
        "1 - momentum": (1 - np.asarray(trials.settings.momentum), "log"),
        "standard deviation of the input noise": (trials.settings.noise, "linear"),
    }
    for axes, (name, (values, scale)) in zip(panels, axis.items(), strict=True):
        axes.plot(values, trials.valid_nll, "o", markersize=4)
        axes.set(xlabel=name, xscale=scale)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="nats per frame, validation")
    figure.suptitle(f"{variant}: {VARIANTS[variant].title}, {len(trials.valid_nll)} trials")
    figure.savefig(path, dpi=120)


def draw_variants(records: Mapping[str, Record], searches: Mapping[str, Trials], path: Path) -> None:
    """Plot the test figures of each variant, its best trials and retrained networks, above its parameters."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    panel, bars = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    for place, (variant, record) in enumerate(records.items()):
        mean, least, most = (record.metrics[f"test_nll{end}"] for end in ("", "_min", "_max"))
        label = None if place else "retrained with the best settings: mean and range"
        panel.errorbar(
            place, mean, [[mean - least], [most - mean]], fmt="o", color="C0", capsize=5, label=label
        )
        if variant in searches:
            best = searches[variant].test_nll[best_quarter(searches[variant])]
            label = None if place else "best quarter of the trials"
            panel.plot([place + 0.15] * len(best), best, ".", color="gray", label=label)
        bars.bar(place, record.metrics["parameters"] / 1000, width=0.5, color="C0")
    if "v" in records:
        panel.axhline(records["v"].metrics["test_nll"], linestyle=":", color="gray")
    panel.set(ylabel="nats per frame, test")
    panel.grid(axis="y", alpha=0.3)
    panel.legend()
    bars.set(ylabel="thousand\nparameters", xticks=range(len(records)), xticklabels=map(str.upper, records))
    figure.savefig(path, dpi=110)
