"""LSTM layers of other packages, each used in its documented form, with our weights.

A peer builds, for a `Layer`, a function from parameters and inputs ``[batch, time, features]`` to outputs,
and its parameters from ours. Packages are imported when a peer is built: they come with the extra ``bench``.
"""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import lstmjax
from lstmjax.backends import Backend
from lstmjax.cells.lstm import LSTMParams
from lstmjax.sequence.bidirectional import Directions


@dataclasses.dataclass(frozen=True)
class Layer:
    """The benchmarked layer: a stack of LSTMs, or one in each direction."""

    batch: int
    time: int
    features: int
    hidden: int
    depth: int = 1
    bidirectional: bool = False

    def __str__(self) -> str:
        kind = f"-depth{self.depth}" if self.depth > 1 else "-bidirectional" if self.bidirectional else ""
        return f"{self.batch}x{self.time}x{self.features}x{self.hidden}{kind}"

    @classmethod
    def of(cls, text: str) -> "Layer":
        """The layer of a text such as 20x35x200x200."""
        batch, time, features, hidden = map(int, text.split("x"))
        return cls(batch, time, features, hidden)

    @property
    def cells(self) -> list[lstmjax.LSTM]:
        """One cell for each set of weights: layers in order, or forward and backward."""
        if self.bidirectional:
            return [lstmjax.LSTM(self.features, self.hidden)] * 2
        sizes = [self.features] + [self.hidden] * (self.depth - 1)
        return [lstmjax.LSTM(size, self.hidden) for size in sizes]

    @property
    def gradient_flops(self) -> int:
        """Operations of the products of value and gradient: three times those of the forward pass."""
        kernels = sum((cell.features + cell.hidden) * 4 * cell.hidden for cell in self.cells)
        return 3 * 2 * self.batch * self.time * kernels

    @property
    def output_size(self) -> int:
        """Size of an output."""
        return self.hidden * (2 if self.bidirectional else 1)

    def init(self, key: jax.Array) -> list[LSTMParams]:
        """Parameters, with biases that are not all zero."""
        params = [cell.init(k) for cell, k in zip(self.cells, jax.random.split(key, 2), strict=False)]
        wave = 0.1 * jnp.sin(jnp.arange(4 * self.hidden))
        return [p._replace(bias=jnp.asarray(p.bias) + wave) for p in params]


Function = Callable[[Any, jax.Array], jax.Array]


class Peer(NamedTuple):
    """A layer implementation: a function to be jitted, and a conversion of our parameters into its own."""

    apply: Function
    convert: Callable[[list[LSTMParams]], Any]


def gates(array: Any, order: str = "ifgo") -> list[jax.Array]:
    """The gates of a parameter array, in the given order."""
    parts = dict(zip("ifgo", jnp.split(jnp.asarray(array), 4, axis=-1), strict=True))
    return [parts[gate] for gate in order]


def ours(layer: Layer, backend: Backend) -> Peer:
    """This project's layer with one of its backends."""
    if layer.bidirectional:
        both = lstmjax.bidirectional(*layer.cells)
        return Peer(
            lambda params, inputs: both.apply(params, inputs, backend=backend)[1], lambda p: Directions(*p)
        )
    stack = lstmjax.stack(*layer.cells)
    return Peer(lambda params, inputs: lstmjax.unroll(stack, params, inputs, backend=backend)[1], tuple)


def linen(layer: Layer) -> Peer:
    """`flax.linen.RNN` over `OptimizedLSTMCell`, and `flax.linen.Bidirectional`."""
    nn = importlib.import_module("flax.linen")
    rnns = [nn.RNN(nn.OptimizedLSTMCell(layer.hidden)) for _ in layer.cells]
    module = nn.Bidirectional(*rnns) if layer.bidirectional else nn.Sequential(rnns)

    def convert(params: list[LSTMParams]) -> Any:
        trees = []
        for p in params:
            parts = zip("ifgo", gates(p.kernel), gates(p.recurrent_kernel), gates(p.bias), strict=True)
            tree: dict[str, Any] = {}
            for gate, kernel, recurrent, bias in parts:
                tree[f"i{gate}"] = {"kernel": kernel}
                tree[f"h{gate}"] = {"kernel": recurrent, "bias": bias}
            trees.append(tree)
        if layer.bidirectional:  # the module's own names of the cells
            names = ["forward_rnn", "backward_rnn"]
            return {"params": {name: {"cell": tree} for name, tree in zip(names, trees, strict=True)}}
        return {"params": {f"layers_{i}": {"cell": tree} for i, tree in enumerate(trees)}}

    return Peer(module.apply, convert)


def nnx(layer: Layer) -> Peer:
    """`flax.nnx.RNN` over `OptimizedLSTMCell`, in the functional form of `split` and `merge`."""
    flax_nnx = importlib.import_module("flax.nnx")
    rngs = flax_nnx.Rngs(0)
    rnns = [
        flax_nnx.RNN(flax_nnx.OptimizedLSTMCell(cell.features, cell.hidden, rngs=rngs))
        for cell in layer.cells
    ]
    module = flax_nnx.Bidirectional(*rnns, rngs=rngs) if layer.bidirectional else flax_nnx.Sequential(*rnns)
    graph, state, rest = flax_nnx.split(module, flax_nnx.Param, ...)

    def apply(params: Any, inputs: jax.Array) -> jax.Array:
        return flax_nnx.merge(graph, params, rest, copy=True)(inputs)

    def convert(params: list[LSTMParams]) -> Any:
        def ours(path: Any, leaf: jax.Array) -> jax.Array:
            name = jax.tree_util.keystr(path)
            second = "backward" in name if layer.bidirectional else "[1]" in name
            p = params[int(second)]
            if "dense_i" in name:
                return jnp.asarray(p.kernel)
            return jnp.asarray(p.recurrent_kernel if "kernel" in name else p.bias)

        return jax.tree_util.tree_map_with_path(ours, state)

    return Peer(apply, convert)


def haiku(layer: Layer) -> Peer:
    """`haiku.LSTM` in `haiku.dynamic_unroll`; time is the first axis, as in its documentation."""
    hk = importlib.import_module("haiku")

    def network(inputs: jax.Array) -> jax.Array:
        def run(core: Any, x: jax.Array, reverse: bool = False) -> jax.Array:
            state = core.initial_state(x.shape[1])
            return hk.dynamic_unroll(core, x, state, reverse=reverse)[0]

        x = jnp.swapaxes(inputs, 0, 1)
        cores = [hk.LSTM(layer.hidden, name=f"lstm{i}") for i in range(len(layer.cells))]
        if layer.bidirectional:
            x = jnp.concatenate([run(cores[0], x), run(cores[1], x, reverse=True)], axis=-1)
        else:
            for core in cores:
                x = run(core, x)
        return jnp.swapaxes(x, 0, 1)

    transformed = hk.without_apply_rng(hk.transform(network))

    def convert(params: list[LSTMParams]) -> Any:
        tree = {}
        for i, p in enumerate(params):
            both = jnp.concatenate([jnp.asarray(p.kernel), jnp.asarray(p.recurrent_kernel)])
            bias = gates(p.bias, "igfo")
            bias[2] = bias[2] - 1  # haiku adds 1 in its code
            tree[f"lstm{i}/linear"] = {
                "w": jnp.concatenate(gates(both, "igfo"), axis=-1),
                "b": jnp.concatenate(bias),
            }
        return tree

    return Peer(transformed.apply, convert)


def equinox(layer: Layer) -> Peer:
    """`equinox.nn.LSTMCell` in a scan, mapped over the batch, as in its example."""
    eqx = importlib.import_module("equinox")
    cells = [eqx.nn.LSTMCell(cell.features, cell.hidden, key=jax.random.key(0)) for cell in layer.cells]

    def run(cell: Any, x: jax.Array, reverse: bool = False) -> jax.Array:
        def step(state: Any, x_t: jax.Array) -> Any:
            state = cell(x_t, state)
            return state, state[0]

        zeros = jnp.zeros(layer.hidden)
        return jax.lax.scan(step, (zeros, zeros), x, reverse=reverse)[1]

    def single(cells: Any, x: jax.Array) -> jax.Array:
        if layer.bidirectional:
            return jnp.concatenate([run(cells[0], x), run(cells[1], x, reverse=True)], axis=-1)
        for cell in cells:
            x = run(cell, x)
        return x

    def convert(params: list[LSTMParams]) -> Any:
        def one(cell: Any, p: LSTMParams) -> Any:
            arrays = (jnp.asarray(p.kernel).T, jnp.asarray(p.recurrent_kernel).T, jnp.asarray(p.bias))
            return eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias), cell, arrays)

        made = [one(cell, p) for cell, p in zip(cells, params, strict=True)]
        return eqx.filter(made, eqx.is_array)

    static = eqx.filter(cells, eqx.is_array, inverse=True)

    def apply(params: Any, inputs: jax.Array) -> jax.Array:
        return jax.vmap(single, in_axes=(None, 0))(eqx.combine(params, static), inputs)

    return Peer(apply, convert)


def keras(layer: Layer) -> Peer:
    """`keras.layers.LSTM` on JAX, through `stateless_call`."""
    package = importlib.import_module("keras")
    if package.backend.backend() != "jax":
        raise ImportError("Keras must run on JAX: set KERAS_BACKEND=jax")
    inputs = package.Input((layer.time, layer.features))
    lstms = [package.layers.LSTM(layer.hidden, return_sequences=True) for _ in layer.cells]
    x = inputs
    if layer.bidirectional:
        backward = package.layers.LSTM(layer.hidden, return_sequences=True, go_backwards=True)
        wrapper = package.layers.Bidirectional(lstms[0], backward_layer=backward)
        x = wrapper(x)
        lstms = [wrapper.forward_layer, wrapper.backward_layer]
    else:
        for lstm in lstms:
            x = lstm(x)
    model = package.Model(inputs, x)
    constants = [variable.value for variable in model.non_trainable_variables]

    def apply(params: Any, inputs: jax.Array) -> jax.Array:
        return model.stateless_call(params, constants, inputs)[0]

    def convert(params: list[LSTMParams]) -> Any:
        return [jnp.asarray(array) for p in params for array in p]

    return Peer(apply, convert)


JAX_PEERS: dict[str, Callable[[Layer], Peer]] = {
    "linen": linen,
    "nnx": nnx,
    "haiku": haiku,
    "equinox": equinox,
    "keras": keras,
}


class Torch:
    """`torch.nn.LSTM` with our weights, run eagerly."""

    def __init__(self, layer: Layer, params: list[LSTMParams], inputs: jax.Array, weights: jax.Array) -> None:
        self.torch = importlib.import_module("torch")
        self.lstm = self.torch.nn.LSTM(
            layer.features,
            layer.hidden,
            num_layers=layer.depth,
            bidirectional=layer.bidirectional,
            batch_first=True,
        )
        for i, p in enumerate(params):
            suffix = "l0" + ("_reverse" if i else "") if layer.bidirectional else f"l{i}"
            with self.torch.no_grad():
                getattr(self.lstm, f"weight_ih_{suffix}").copy_(self.tensor(p.kernel).T)
                getattr(self.lstm, f"weight_hh_{suffix}").copy_(self.tensor(p.recurrent_kernel).T)
                getattr(self.lstm, f"bias_ih_{suffix}").copy_(self.tensor(p.bias))
                getattr(self.lstm, f"bias_hh_{suffix}").zero_()
        self.inputs, self.weights = self.tensor(inputs).requires_grad_(), self.tensor(weights)

    def tensor(self, array: Any) -> Any:
        """A tensor with a copy of the array."""
        return self.torch.from_numpy(np.array(array))

    def forward(self) -> Any:
        """Outputs of the forward pass, without gradients."""
        with self.torch.no_grad():
            return self.lstm(self.inputs)[0]

    def gradient(self) -> Any:
        """Gradient of the weighted sum of the outputs with respect to parameters and inputs."""
        self.lstm.zero_grad()
        self.inputs.grad = None
        (self.lstm(self.inputs)[0] * self.weights).sum().backward()
        return self.inputs.grad
