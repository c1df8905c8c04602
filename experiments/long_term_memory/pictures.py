"""Pictures: what gates and cell state do over a sequence, and how far back the gradient reaches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import lstmjax
from experiments.long_term_memory.config import Config
from experiments.long_term_memory.model import make_cell, make_model, make_problem
from experiments.long_term_memory.task import Progress, draw
from lstmjax import diagnostics
from lstmjax.diagnostics import LSTMTrace, plots
from lstmjax.types import Array, Params


class Reading(NamedTuple):
    """The trace of an LSTM with the inputs that it read, each ``[time, size]``."""

    inputs: jax.Array
    input_gate: jax.Array
    forget_gate: jax.Array
    output_gate: jax.Array
    cell: jax.Array
    hidden: jax.Array


def draw_run(config: Config, params: Params, progress: Progress, folder: Path) -> None:
    """Draw the first network that solved the problem, or the first of all, as `draw_network` does."""
    first = int(np.argmax(np.asarray(progress.solved)))
    draw_network(config, jax.tree.map(lambda leaf: leaf[first], params), folder)


def draw_network(config: Config, params: Params, folder: Path) -> None:
    """Draw a network at work on one test sequence: ``traces.png``, ``gradient_flow.png``, and ``unit.png``.

    The last is of LSTMs only. Nothing is drawn of cells that `lstmjax.diagnostics` does not know.
    """
    problem = make_problem(config)
    cell = make_cell(config, problem)
    if type(cell) not in diagnostics.RECORDERS:
        return
    network = make_model(config, problem).bind(params)
    row = jax.tree.map(lambda leaf: leaf[0, 0], draw(config, problem, 1, config.seed, 0))
    inputs, values = jnp.asarray(row.inputs[: row.lengths]), network.recurrent.values
    one = row._replace(targets=row.targets[: len(inputs)], legal=row.legal[: len(inputs)])

    def loss(outputs: jax.Array) -> jax.Array:
        asked = row.asked[: len(inputs)]
        return jnp.where(asked, problem.read(network.readout(outputs), one).loss, 0).sum() / asked.sum()

    seen = diagnostics.trace(cell, values, inputs)
    flow = diagnostics.gradient_flow(cell, values, inputs, loss)
    figures = {"gradient_flow": plots.plot_gradient_flow(flow)}
    if isinstance(seen, LSTMTrace):
        seen = Reading(inputs, *(getattr(seen, name) for name in Reading._fields[1:]))
        figures["unit"] = plot_unit(seen, most_selective(seen))
    figures["traces"] = plots.plot_trace(seen)
    for name, figure in figures.items():
        figure.suptitle(f"{config.cell}: {problem.title}")
        figure.savefig(folder / f"{name}.png", dpi=120)


def most_selective(seen: Reading) -> int:
    """The unit whose input gate opens and closes most."""
    return int(np.ptp(np.asarray(seen.input_gate), axis=0).argmax())


def plot_unit(seen: Reading, unit: int) -> Figure:
    """Gates and states of one unit over a sequence, below the inputs."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    top, middle, bottom = figure.subplots(3, sharex=True, height_ratios=(1, 1.6, 1.6))
    top.imshow(
        np.asarray(seen.inputs).T, aspect="auto", interpolation="nearest", cmap="RdBu", vmin=-1, vmax=1
    )
    top.set(ylabel="inputs", yticks=[])
    for axes, names in ((middle, ("input_gate", "forget_gate", "output_gate")), (bottom, ("cell", "hidden"))):
        for name in names:
            axes.plot(np.asarray(getattr(seen, name))[:, unit], label=name.replace("_", " "))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="center right")
    middle.set(ylabel=f"gates of unit {unit}", ylim=(-0.05, 1.05))
    bottom.set(ylabel="its states", xlabel="time step")
    return figure


def with_gain(params: Any, gain: float) -> Any:
    """Parameters of a cell with a recurrent kernel of so many times the size."""
    return params._replace(recurrent_kernel=gain * params.recurrent_kernel)


def untrained(features: int, hidden: int) -> dict[str, tuple[lstmjax.Cell, float]]:
    """Cells, and the gain of their recurrent kernels, as they are before training; the last explode."""
    rnn = lstmjax.elman(features, hidden)
    return {
        "LSTM, forget bias 5": (lstmjax.lstm(features, hidden, forget_bias=5.0), 1.0),
        "LSTM, forget bias 1": (lstmjax.lstm(features, hidden), 1.0),
        "LSTM of 1997": (lstmjax.lstm(features, hidden, forget_gate=False), 1.0),
        "GRU": (lstmjax.gru(features, hidden), 1.0),
        "RNN": (rnn, 1.0),
        "RNN, recurrent kernel halved": (rnn, 0.5),
        "RNN, recurrent kernel times 3": (rnn, 3.0),
        "the same, clipped at 0.1": (lstmjax.clip_gradient(rnn, 0.1), 3.0),
    }


def reach(cell: lstmjax.Cell, params: Params, inputs: jax.Array) -> diagnostics.Flow:
    """The gradient of the sum of the last output, the last step first: norms ``[rows, time]``."""
    flow = diagnostics.gradient_flow(cell, params, inputs, lambda outputs: outputs[..., -1, :].sum())
    return jax.tree.map(lambda norms: norms[..., ::-1], flow)


def draw_gradients(inputs: Array, hidden: int, seed: int, path: Path) -> None:
    """Plot how the gradient of the last output changes on its way back, for cells before training.

    Args:
      inputs: float32 ``[rows, time, features]``.
      hidden: size of the hidden state.
      seed: random seed of the parameters.
      path: the image to write.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for number, (name, (cell, gain)) in enumerate(untrained(inputs.shape[-1], hidden).items()):
        params = with_gain(cell.init(jax.random.key(seed)), gain)
        flow, axes = reach(cell, params, jnp.asarray(inputs)), panels[int(number > 4)]
        (line,) = axes.plot(_typical(flow.hidden), label=f"{name}, hidden state")
        if flow.cell is not None:
            axes.plot(_typical(flow.cell), "--", color=line.get_color(), label=f"{name}, cell state")
    panels[0].set(title="carried and vanishing", ylabel="norm of the gradient of the last output")
    panels[1].set(title="vanishing, exploding, clipped")
    for axes in panels:
        axes.set(xlabel="steps back", yscale="log", ylim=(1e-12, 1e12))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)


def _typical(norms: Array) -> np.ndarray:
    """The geometric mean over rows; NaN, which is not drawn, where all vanish."""
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(np.asarray(norms, np.float64)).mean(axis=0))
    return np.where(mean > 0, mean, np.nan)


def jacobians(cell: lstmjax.Cell, params: Params, inputs: jax.Array) -> np.ndarray:
    """The Jacobians of the last state by the states before it, the state one step back first.

    Args:
      cell: any cell.
      params: its parameters.
      inputs: ``[time, features]``.

    Returns:
      float64 ``[time, size, size]``, where a state is a row of all its numbers.
    """
    start, unravel = jax.flatten_util.ravel_pytree(cell.initial_state())

    def step(state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        def after(state: jax.Array) -> jax.Array:
            return jax.flatten_util.ravel_pytree(cell.step(params, unravel(state), x)[0])[0]

        return after(state), jax.jacfwd(after)(state)

    _, each = jax.lax.scan(step, start, inputs)
    product, products = np.eye(len(start)), []
    for jacobian in np.asarray(each, np.float64)[::-1]:
        product = product @ jacobian
        products.append(product)
    return np.stack(products)


def draw_eigenvalues(inputs: Array, hidden: int, seed: int, path: Path) -> None:
    """Plot the absolute eigenvalues of the Jacobian products of one sequence: which directions are carried.

    Args:
      inputs: float32 ``[time, features]``.
      hidden: size of the hidden state.
      seed: random seed of the parameters.
      path: the image to write.
    """
    shown = ("LSTM, forget bias 5", "LSTM of 1997", "GRU", "RNN", "RNN, recurrent kernel times 3")
    cells: Mapping[str, Any] = untrained(inputs.shape[-1], hidden)
    figure = Figure(figsize=(2.6 * len(shown), 3.4), layout="constrained")
    for name, axes in zip(shown, figure.subplots(1, len(shown), sharey=True), strict=True):
        cell, gain = cells[name]
        products = jacobians(cell, with_gain(cell.init(jax.random.key(seed)), gain), jnp.asarray(inputs))
        for steps in (1, 10, len(products)):
            sizes = np.sort(np.abs(np.linalg.eigvals(products[steps - 1])))[::-1]
            axes.plot(np.maximum(sizes, 1e-12), ".-", markersize=4, label=f"{steps} steps")
        axes.set(title=name, xlabel="eigenvalue", yscale="log", ylim=(1e-12, 1e12))
        axes.title.set_fontsize(9)
        axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.axes[0].set(ylabel="absolute value")
    figure.savefig(path, dpi=120)
