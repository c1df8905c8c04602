"""Pictures: the trials of a search, and the best of all variants side by side."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.gate_ablation.model import VARIANTS
from experiments.gate_ablation.search import Trials, best_quarter


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
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="nats per frame, validation")
    figure.suptitle(f"{variant}: {VARIANTS[variant].title}, {len(trials.valid_nll)} trials")
    figure.savefig(path, dpi=120)


def draw_variants(searches: Mapping[str, Trials], parameters: Mapping[str, float], path: Path) -> None:
    """Plot the test figures of each variant's best trials as a box, above its number of parameters."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    boxes, bars = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    names = [name for name in VARIANTS if name in searches]
    best = [searches[name].test_nll[best_quarter(searches[name])] for name in names]
    boxes.boxplot(best, positions=range(len(names)), widths=0.5)
    for place, values in enumerate(best):
        boxes.plot([place] * len(values), values, ".", color="gray", alpha=0.6)
    if "v" in names:
        boxes.axhline(np.median(best[names.index("v")]), linestyle=":", color="gray")
    boxes.set(ylabel="nats per frame, test", title="the best quarter of the trials of each variant")
    boxes.grid(axis="y", alpha=0.3)
    bars.bar(range(len(names)), [parameters[name] / 1000 for name in names], width=0.5)
    bars.set(ylabel="thousand\nparameters", xticks=range(len(names)), xticklabels=map(str.upper, names))
    figure.savefig(path, dpi=110)
