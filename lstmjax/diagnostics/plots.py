"""Plots of the results of `lstmjax.diagnostics`, one function each; matplotlib is imported when called."""

from typing import TYPE_CHECKING, Any

import numpy as np

from lstmjax.diagnostics.gradient_flow import Flow
from lstmjax.diagnostics.traces import Saturation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(figsize=(width, height), layout="constrained")


def plot_trace(seen: Any) -> "Figure":
    """Gates and states of one sequence, each as a heat map of units over time.

    Args:
      seen: the result of `lstmjax.diagnostics.trace` for one cell, with arrays ``[time, hidden]``: for a
        batch, select one row with ``jax.tree.map(lambda x: x[row], seen)``.

    Returns:
      A figure; ``figure.savefig(path)`` writes it.

    Raises:
      ValueError: there are more axes than time and units.
      TypeError: it is the trace of a stack; select one of its cells.
    """
    _check_one("plot_trace", seen)
    arrays = {name: np.asarray(array, np.float32) for name, array in seen._asdict().items()}
    for name, array in arrays.items():
        if array.ndim != 2:
            raise ValueError(
                f"plot_trace: {name} must be [time, hidden], one row of the batch, got {array.shape}."
            )
    figure = _figure(8.0, 1 + 1.4 * len(arrays))
    for axes, (name, array) in zip(
        figure.subplots(len(arrays), sharex=True, squeeze=False)[:, 0], arrays.items(), strict=True
    ):
        gate = name.endswith("_gate")
        reach = 1.0 if gate else max(1.0, float(np.abs(array).max(initial=0)))
        image = axes.imshow(
            array.T,
            aspect="auto",
            interpolation="nearest",
            cmap="viridis" if gate else "RdBu",
            vmin=0.0 if gate else -reach,
            vmax=reach,
        )
        axes.set(ylabel=f"{name.replace('_', ' ')}\nunit")
        figure.colorbar(image, ax=axes)
    axes.set(xlabel="time step")
    return figure


def plot_gradient_flow(flow: Flow) -> "Figure":
    """Norms of the gradient at each step, on a logarithmic scale, averaged over rows.

    Args:
      flow: the result of `lstmjax.diagnostics.gradient_flow` for one cell.

    Returns:
      A figure; ``figure.savefig(path)`` writes it.

    Raises:
      TypeError: it is the flow of a stack; select one of its cells.
    """
    _check_one("plot_gradient_flow", flow)
    figure = _figure(7.0, 4.0)
    axes = figure.subplots()
    for name, norms in flow._asdict().items():
        if norms is None:
            continue
        values = np.asarray(norms, np.float64)
        mean = values.reshape(-1, values.shape[-1]).mean(axis=0)
        axes.plot(np.where(mean > 0, mean, np.nan), label=f"{name} state")
    axes.set(xlabel="time step", ylabel="norm of the gradient", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def plot_saturation(saturated: dict[str, Saturation]) -> "Figure":
    """How often the gates of each unit are closed and open, a scatter plot for each gate.

    Args:
      saturated: the result of `lstmjax.diagnostics.saturation` for one cell.

    Returns:
      A figure; ``figure.savefig(path)`` writes it.

    Raises:
      ValueError: the cell has no gates.
      TypeError: it is the saturation of a stack; select one of its cells.

    Source: Karpathy, Johnson and Fei-Fei 2016 (arXiv:1506.02078, figure 2).
    """
    _check_one("plot_saturation", saturated)
    if not saturated:
        raise ValueError("plot_saturation: the cell has no gates.")
    figure = _figure(1 + 2.5 * len(saturated), 3.2)
    for axes, (name, shares) in zip(
        figure.subplots(1, len(saturated), squeeze=False)[0], saturated.items(), strict=True
    ):
        axes.scatter(np.asarray(shares.right), np.asarray(shares.left), s=12, alpha=0.5)
        axes.plot([0, 1], [1, 0], color="gray", linewidth=0.8)
        axes.set(
            xlabel="open (above 0.9)",
            ylabel="shut (below 0.1)",
            title=name.replace("_", " "),
            xlim=(-0.03, 1.03),
            ylim=(-0.03, 1.03),
        )
    return figure


def _check_one(name: str, value: Any) -> None:
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        raise TypeError(f"{name}: this is of a stack of {len(value)} cells; give that of one of them.")
