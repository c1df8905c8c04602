"""A recurrent language model: losses, sampling, and outputs of its units."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int

import lstmjax
from lstmjax import initializers
from lstmjax.decoding import keep_nucleus
from lstmjax.losses import vocabulary_cross_entropy
from lstmjax.metrics import Mean, Perplexity
from lstmjax.nnx import Functional, Recurrent
from lstmjax.training.streams import Window
from lstmjax.types import Array, Key, Params, State

CELLS: dict[str, Callable[..., lstmjax.Cell]] = {
    "lstm": lstmjax.lstm,
    "gru": lstmjax.gru,
    "rnn": lstmjax.elman,
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The hyperparameters of a model."""

    vocabulary: int
    """Number of distinct tokens."""
    hidden: int
    """Size of embedding and hidden states."""
    layers: int
    """Number of recurrent layers."""
    cell: str = "lstm"
    """One of `CELLS`."""
    dropout: float = 0.0
    """Dropout rate on the inputs of each layer and the outputs of the last."""
    init_scale: float = 0.0
    """All parameters are initialized uniformly in [-init_scale, init_scale); 0 for layer defaults."""


class LanguageModel(nnx.Module):
    """Embedding, recurrent layers, and the distribution of the next token.

    Dropout acts between layers and never along time.

    Args:
      architecture: the hyperparameters.
      rngs: the stream ``params`` initializes the parameters.

    Source: Zaremba, Sutskever and Vinyals 2014 (arXiv:1409.2329).
    """

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        vocabulary, hidden, scale = architecture.vocabulary, architecture.hidden, architecture.init_scale
        make, options = CELLS[architecture.cell], uniform_start(architecture.cell, scale) if scale else {}
        cells = [make(hidden, hidden, **options) for _ in range(architecture.layers)]
        kernel_init = initializers.uniform(scale) if scale else nnx.initializers.lecun_normal()
        bias_init = initializers.uniform(scale) if scale else nnx.initializers.zeros
        self.embedding = nnx.Param(embedding_start(scale)(rngs.params(), (vocabulary, hidden)))
        self.layers = nnx.List([Recurrent(cell, rngs=rngs) for cell in cells])
        self.kernel = nnx.Param(kernel_init(rngs.params(), (hidden, vocabulary)))
        self.bias = nnx.Param(bias_init(rngs.params(), (vocabulary,)))
        self.dropout = nnx.Dropout(architecture.dropout)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """The state before the first token."""
        return tuple(layer.initial_state(batch_shape) for layer in self.layers)

    def outputs(
        self, tokens: Int[Array, "batch time"], state: State, key: Key | None = None
    ) -> tuple[State, list[Float[jax.Array, "batch time hidden"]]]:
        """The state after the last token, and the outputs of each layer; with dropout if there is a key.

        The last entry is the input of `loss` and `logits`.
        """
        keys = [None] * (len(self.layers) + 1) if key is None else jax.random.split(key, len(self.layers) + 1)
        below, after, outputs = self._drop(self.embedding[...][tokens], keys[0]), [], []
        for layer, before, layer_key in zip(self.layers, state, keys[1:], strict=True):
            layer_state, above = layer(below, before)
            below = self._drop(above, layer_key)
            after.append(layer_state)
            outputs.append(below)
        return tuple(after), outputs

    def _drop(self, values: jax.Array, key: Key | None) -> jax.Array:
        if key is None or self.dropout.rate == 0:
            return values
        return self.dropout(values, deterministic=False, rngs=nnx.Rngs(dropout=key))

    def loss(
        self,
        outputs: Float[Array, "batch time hidden"],
        targets: Int[Array, "batch time"],
        mask: Bool[Array, "batch time"],
    ) -> Mean:
        """The negative log-likelihood of the targets where the mask is true, in nats."""
        return token_loss(outputs, self.kernel[...], self.bias[...], targets, mask)

    def logits(self, outputs: Float[Array, "*batch hidden"]) -> Float[jax.Array, "*batch vocabulary"]:
        """Logits of the next token."""
        return outputs @ self.kernel[...] + self.bias[...]


def window_loss(
    model: Functional, params: Params, state: State, window: Window, key: Key | None = None
) -> tuple[State, Mean]:
    """The state after a window, and the negative log-likelihood of its valid targets."""
    module = model.bind(params)
    state, outputs = module.outputs(window.inputs, carried(state, window), key)
    return state, module.loss(outputs[-1], window.targets, target_mask(window))


def carried(state: State, window: Window) -> State:
    """The initial state of a window: that of the previous window, or zeros at the beginning of an epoch."""
    return jax.tree.map(lambda leaf: jnp.where(window.first, jnp.zeros_like(leaf), leaf), state)


def target_mask(window: Window) -> Bool[Array, "batch time"]:
    """The mask of valid targets of a window."""
    return jnp.arange(window.targets.shape[1]) < window.lengths[:, None]


def token_loss(
    outputs: Float[Array, "batch time hidden"],
    kernel: Float[Array, "hidden vocabulary"],
    bias: Float[Array, " vocabulary"],
    targets: Int[Array, "batch time"],
    mask: Bool[Array, "batch time"],
) -> Mean:
    """The negative log-likelihood under a softmax of the targets where the mask is true, in nats."""
    weights = mask.astype(jnp.float32)
    return Mean(vocabulary_cross_entropy(outputs, kernel, bias, targets, weights), weights.sum())


def evaluate_window(
    model: Functional, params: Params, state: State, window: Window
) -> tuple[State, dict[str, Mean]]:
    """The state after a window, and its metrics."""
    state, nll = window_loss(model, params, state, window)
    return state, {"nll": nll, "perplexity": Perplexity(*nll)}


def initial_state(model: Functional, rows: int) -> State:
    """Zeros for ``rows`` rows: a zero initial state does not depend on parameters."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    shapes = jax.eval_shape(lambda params: model.bind(params).initial_state((rows,)), params)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def embedding_start(scale: float) -> initializers.KernelInit:
    """Initializer of an embedding: uniform in plus and minus ``scale``, or standard normal if that is 0."""
    return initializers.uniform(scale) if scale else nnx.initializers.normal(1.0)


def uniform_start(cell: str, scale: float) -> dict[str, Any]:
    """Options of a cell whose parameters are initialized uniformly in plus and minus a scale."""
    uniform = initializers.uniform(scale)
    options: dict[str, Any] = {"kernel_init": uniform, "recurrent_init": uniform}
    if cell == "lstm":
        options["forget_bias"] = _UniformBiases(scale)
    return options


@dataclasses.dataclass(frozen=True)
class _UniformBiases:
    scale: float

    def __call__(self, key: Key, hidden: int, dtype: Any = jnp.float32) -> jax.Array:
        return initializers.uniform(self.scale)(key, (4, hidden), dtype)


def stream(
    model: Functional,
    params: Params,
    prompt: Sequence[int],
    key: Key,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Iterator[int]:
    """Sample tokens after a prompt, one by one, without end.

    Args:
      model: a `LanguageModel` as `lstmjax.nnx.functional` splits it.
      params: its parameters.
      prompt: ids of at least one token.
      key: random key.
      temperature: 1 samples from the model's distribution; lower values favour likely tokens, 0 is greedy.
      top_p: as for `lstmjax.decoding.keep_nucleus`; 1 keeps all tokens.

    Raises:
      ValueError: the prompt is empty, temperature is negative or top_p not in (0, 1].
    """
    if not len(prompt) or temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(
            "stream: it takes a prompt of at least one token, a temperature of at least 0 and a top_p in "
            f"(0, 1], got {len(prompt)} tokens, {temperature} and {top_p}."
        )

    @jax.jit
    def advance(params: Params, state: State, tokens: jax.Array, key: Key) -> tuple[State, jax.Array]:
        module = model.bind(params)
        state, outputs = module.outputs(tokens, state)
        logits = module.logits(outputs[-1][0, -1])
        if temperature == 0:
            return state, jnp.argmax(logits)
        return state, jax.random.categorical(key, keep_nucleus(logits / temperature, top_p))

    tokens = jnp.asarray(prompt, jnp.int32)[None]
    state = model.bind(params).initial_state((1,))
    for step in itertools.count():
        state, token = advance(params, state, tokens, jax.random.fold_in(key, step))
        tokens = token[None, None].astype(jnp.int32)
        yield int(token)


def unit_outputs(
    model: Functional, params: Params, tokens: Int[np.ndarray, " time"]
) -> Float[np.ndarray, "units time"]:
    """Outputs of the units of every layer, lowest first, for each token of one text."""

    @jax.jit
    def run(params: Params, tokens: jax.Array) -> jax.Array:
        module = model.bind(params)
        _, outputs = module.outputs(tokens[None], module.initial_state((1,)))
        return jnp.concatenate([layer[0].T for layer in outputs])

    return np.asarray(run(params, jnp.asarray(tokens)))
