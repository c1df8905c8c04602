"""Plots that all experiments share."""

from pathlib import Path

from matplotlib.figure import Figure

from lstmjax.training.record import Run


def learning_curves(run: Run, metric: str, path: Path, ylabel: str) -> None:
    """Plot a metric over the training steps, on the training batches and on the validation set.

    Args:
      run: the run, with its logged metrics.
      metric: name of the metric.
      path: the image file to write.
      ylabel: quantity and unit of the metric.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for kind, title, style in (("train", "training (with noise)", "-"), ("valid", "validation", "o-")):
        entries = [entry for entry in run.metrics(kind) if metric in entry.metrics]
        steps = [entry.step for entry in entries]
        axes.plot(steps, [entry.metrics[metric] for entry in entries], style, markersize=3, label=title)
    axes.set(xlabel="training step", ylabel=ylabel, title=f"{run.experiment}, seed {run.seed}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
