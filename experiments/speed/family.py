"""Other cells: our layer beside those of other packages with the same weights, and beside our scan.

The weights are those of a PyTorch module, read by `lstmjax.convert`, or ours. Cells that no other package has
are timed against the scan of our own step alone. Those of memax begin anew where flags say so, and have as
many features as units; its LSTM has no activation of the cell state.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import lstmjax
from experiments.speed.config import Config
from experiments.speed.measurements import OURS, compare, take_turns
from lstmjax import Cell, convert

SHAPES = ((20, 35, 200, 200), (32, 256, 128, 128), (128, 100, 64, 64), (64, 50, 512, 512))
"""Batch, time, features and hidden units."""

FEW = ((1, 200, 128, 128), (8, 100, 128, 128), (8, 100, 512, 512), (32, 100, 128, 128))
"""Of batches of few rows, for cells whose products with the state have no native code."""

RESETS = 0.01
"""The share of steps at which a sequence begins anew, where the other package has resets."""


class Kind(NamedTuple):
    """A cell, and the modules of other packages that are the same."""

    make: Callable[..., Cell]
    torch: Callable[..., Any] | None = None
    """From `torch.nn`, features and units to a module that is batch-major."""
    linen: str = ""
    """The name of a cell of `flax.linen`."""
    shapes: tuple[tuple[int, int, int, int], ...] = SHAPES
    memax: Callable[[Any, Any], Any] | None = None
    """From a cell and its parameters, the same as a module of `memax.equinox`."""
    backends: tuple[str, ...] = ()
    """Of ours that are timed besides the scan."""
    gru: bool = False
    """Whether our GRU of the same sizes is timed beside it."""


def _memax_lstm(cell: Any, params: Any) -> Any:
    from memax.equinox.set_actions.lstm import LSTM  # noqa: PLC0415

    return _memax(LSTM(cell.hidden, jax.random.key(0)), _gates(params, "ifco"))


def _memax_gru(cell: Any, params: Any) -> Any:
    from memax.equinox.set_actions.gru import GRU  # noqa: PLC0415

    gates = _gates(params, "rzh")
    gates["z"] = tuple(-array for array in gates["z"])  # of what is written, where ours is of what is kept
    return _memax(GRU(cell.hidden, jax.random.key(0)), gates)


Gates = dict[str, tuple[jax.Array, ...]]
"""Kernel, recurrent kernel and bias of each gate."""


def _gates(params: Any, names: str) -> Gates:
    arrays = (params.kernel, params.recurrent_kernel, params.bias)
    columns = (jnp.split(jnp.asarray(array), len(names), axis=-1) for array in arrays)
    return dict(zip(names, zip(*columns, strict=True), strict=True))


def _memax(module: Any, gates: Gates) -> Any:
    """A module with these parameters."""
    tree_at = importlib.import_module("equinox").tree_at
    for gate, (kernel, recurrent, bias) in gates.items():

        def leaves(module: Any, gate: str = gate) -> Any:
            step = module.algebra.algebra
            of_input = getattr(step, f"W_{gate}")
            return of_input.weight, getattr(step, f"U_{gate}").weight, of_input.bias

        module = tree_at(leaves, module, (kernel.T, recurrent.T, bias))
    return module


KINDS = {
    "GRU": Kind(lstmjax.gru, lambda nn, *sizes: nn.GRU(*sizes, batch_first=True), "GRUCell"),
    "Elman": Kind(lstmjax.elman, lambda nn, *sizes: nn.RNN(*sizes, batch_first=True)),
    "CIFG": Kind(lambda *sizes: lstmjax.lstm(*sizes, coupled=True)),
    "peepholes": Kind(lambda *sizes: lstmjax.lstm(*sizes, peepholes=True)),
    "LSTM, resets": Kind(
        lambda *sizes: lstmjax.lstm(*sizes, output_activation=jax.nn.identity), memax=_memax_lstm
    ),
    "mLSTM": Kind(
        lambda features, hidden: lstmjax.mlstm(features, hidden, heads=max(hidden // 64, 1)),
        shapes=((4, 2048, 128, 128), (8, 2048, 256, 256)),
    ),
    "GRU, resets": Kind(lambda *sizes: lstmjax.gru(*sizes, reset_after=False), memax=_memax_gru),
    "multiplicative": Kind(lstmjax.multiplicative_lstm),
    "projection": Kind(
        lambda features, hidden: lstmjax.lstm(features, hidden, projection=hidden // 2),
        lambda nn, features, hidden: nn.LSTM(features, hidden, proj_size=hidden // 2, batch_first=True),
        shapes=FEW,
    ),
    "layer norm": Kind(lambda *sizes: lstmjax.lstm(*sizes, layer_norm=True), shapes=FEW),
    "sLSTM": Kind(lambda *sizes: lstmjax.slstm(*sizes, heads=4), shapes=FEW),
    "minGRU": Kind(
        lstmjax.min_gru,
        shapes=((32, 1000, 128, 128), (8, 1000, 512, 512)),
        backends=("associative",),
        gru=True,
    ),
}


def measure_family(config: Config, shapes: Any = None) -> dict[str, float]:
    """Times and ratios of value and gradient, ``family_..._<shape>-<kind>_<contestant>``.

    The shapes are those of each kind, or others.
    """
    figures: dict[str, float] = {}
    for name, kind in KINDS.items():
        for shape in shapes or kind.shapes:
            layer = f"{'x'.join(map(str, shape))}-{name}"
            found = compare("family", layer, take_turns(_contestants(config, kind, *shape), config.rounds))
            figures |= found
            print(layer, {k: round(v, 2) for k, v in found.items() if "_ratio_" in k}, flush=True)
    return figures


def _contestants(
    config: Config, kind: Kind, batch: int, time: int, features: int, hidden: int
) -> dict[str, Callable[[], Any]]:
    """Functions of nothing that compute value and gradient, after a check that they agree."""
    random = np.random.default_rng(0)
    inputs = random.standard_normal((batch, time, features), np.float32)
    resets = random.random((batch, time)) < RESETS if kind.memax is not None else None
    cell: Any = kind.make(features, hidden)
    weights = random.standard_normal((batch, time, cell.output_size), np.float32)
    params = cell.init(jax.random.key(0))
    made: dict[str, Callable[[], Any]] = {}
    if kind.torch is not None and "torch" in config.rivals:
        torch = importlib.import_module("torch")
        module = kind.torch(torch.nn, features, hidden)
        cell, params = convert.from_torch(module)
        made["torch"] = _torch(torch, module, inputs, weights)
    applied: dict[str, tuple[Callable[..., jax.Array], Any]] = {
        backend: (_ours(cell, backend, resets), params) for backend in (OURS, "scan", *kind.backends)
    }
    if kind.linen and "linen" in config.rivals:
        nn = importlib.import_module("flax.linen")
        rnn = nn.RNN(getattr(nn, kind.linen)(hidden))
        applied["linen"] = (rnn.apply, {"params": {"cell": convert.to_linen(cell, params)}})
    if kind.memax is not None and "memax" in config.rivals:
        applied["memax"] = _run_memax(kind.memax(cell, params), resets)
    arrays = jnp.asarray(inputs), jnp.asarray(weights)
    for name, (apply, own) in applied.items():
        made[name] = _gradient(apply, own, *arrays)
    expected = made["scan"]()
    for name, function in made.items():
        value, (_, gradient) = function()
        np.testing.assert_allclose(value, expected[0], rtol=1e-3, err_msg=name)
        scale = float(np.abs(expected[1][1]).max())
        np.testing.assert_allclose(gradient, expected[1][1], rtol=1e-3, atol=1e-4 * scale, err_msg=name)
    if kind.gru:
        other = lstmjax.gru(features, hidden)
        made["gru"] = _gradient(_ours(other, OURS, None), other.init(jax.random.key(0)), *arrays)
    return made


def _ours(cell: Cell, backend: Any, resets: np.ndarray | None) -> Callable[..., jax.Array]:
    return lambda params, inputs: lstmjax.unroll(cell, params, inputs, resets=resets, backend=backend)[1]


def _run_memax(module: Any, resets: np.ndarray | None) -> tuple[Callable[..., jax.Array], Any]:
    """The module over each sequence of a batch, from its initial state, as in its documentation."""
    equinox = importlib.import_module("equinox")
    arrays, static = equinox.partition(module, equinox.is_inexact_array)

    def apply(params: Any, inputs: jax.Array) -> jax.Array:
        whole = equinox.combine(params, static)
        return jax.vmap(lambda x, start: whole(whole.initialize_carry(), (x, start))[1])(inputs, resets)

    return apply, arrays


def _gradient(
    apply: Callable[..., jax.Array], params: Any, inputs: jax.Array, weights: jax.Array
) -> Callable[[], Any]:
    def loss(params: Any, inputs: jax.Array) -> jax.Array:
        return jnp.sum(apply(params, inputs) * weights)

    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(params, inputs).compile()
    return lambda: compiled(params, inputs)


def _torch(torch: Any, module: Any, inputs: np.ndarray, weights: np.ndarray) -> Callable[[], Any]:
    x, w = torch.from_numpy(inputs).requires_grad_(), torch.from_numpy(weights)

    def run() -> Any:
        module.zero_grad()
        x.grad = None
        value = (module(x)[0] * w).sum()
        value.backward()
        return value.detach().numpy(), (None, x.grad.numpy())

    return run
