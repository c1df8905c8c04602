r"""The AWD-LSTM: a language model with several kinds of dropout, on weights, inputs and outputs.

Each window has its own dropout masks, of recurrent weights (`lstmjax.regularizers.weight_drop`) and of whole
words of the embedding; inputs and outputs of the layers have one mask for all steps of a window (locked
dropout). The last layer has the embedding's size, and its outputs are multiplied by the embedding table: the
weights of embedding and softmax are tied. With the mean cross entropy L of a window, outputs h of the last
layer and their dropout mask m, the loss is

.. math:: L + \alpha \, \mathrm{mean}((m \odot h_t)^2) + \beta \, \mathrm{mean}((h_{t+1} - h_t)^2).

PyTorch's layers have two biases that are added. Here each layer has one, initialized like their sum: the
model of the paper has 24,221,600 parameters on the Penn Treebank, ours 10,800 fewer. With gradient descent,
the single bias moves half as fast as the sum.

Source: Merity, Keskar and Socher 2018 (arXiv:1708.02182).
"""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Bool, Float, Int

import lstmjax
from experiments.common.command_line import check_numbers
from experiments.language_modeling.model import (
    CELLS,
    Architecture,
    carried,
    embedding_start,
    target_mask,
    token_loss,
    uniform_start,
)
from lstmjax import initializers, regularizers
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional, Recurrent
from lstmjax.training.streams import Window
from lstmjax.types import Array, Key, Params, State


@dataclasses.dataclass(frozen=True)
class AWDConfig:
    """Hyperparameters specific to an AWD-LSTM; the defaults are for the Penn Treebank."""

    embedding: int = 400
    """Size of the embedding, and of the last layer."""
    input_dropout: float = 0.4
    """Dropout rate on the inputs of the first layer."""
    hidden_dropout: float = 0.25
    """Dropout rate between layers."""
    embedding_dropout: float = 0.1
    """Dropout rate on whole words of the embedding."""
    weight_drop: float = 0.5
    """Dropout rate on recurrent weights."""
    alpha: float = 2.0
    """Coefficient of the mean square of the last layer's outputs, after dropout."""
    beta: float = 1.0
    """Coefficient of the mean square of their differences between steps, before dropout."""
    weight_decay: float = 1.2e-6
    """Weight decay: SGD adds this multiple of each parameter to its gradient, after clipping."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("embedding",),
            not_negative=("alpha", "beta", "weight_decay"),
            rates=("input_dropout", "hidden_dropout", "embedding_dropout", "weight_drop"),
            within="awd.",
        )


class AWDLanguageModel(nnx.Module):
    """Embedding, recurrent layers, and the distribution of the next token with tied weights.

    Args:
      architecture: the hyperparameters of a language model; its ``dropout`` is that of the last layer's
        outputs, its ``init_scale`` that of the embedding.
      config: the further hyperparameters.
      rngs: the stream ``params`` initializes the parameters.

    Source: Merity, Keskar and Socher 2018 (arXiv:1708.02182).
    """

    def __init__(self, architecture: Architecture, config: AWDConfig, *, rngs: nnx.Rngs) -> None:
        between = architecture.layers - 1
        sizes = [config.embedding, *[architecture.hidden] * between, config.embedding]
        rates = [config.input_dropout, *[config.hidden_dropout] * between]
        cells = [
            lstmjax.dropout(_cell(architecture.cell, *size), inputs=rate)
            for size, rate in zip(itertools.pairwise(sizes), rates, strict=True)
        ]
        start = embedding_start(architecture.init_scale)
        self.embedding = nnx.Param(start(rngs.params(), (architecture.vocabulary, config.embedding)))
        self.layers = nnx.List([Recurrent(cell, rngs=rngs) for cell in cells])
        self.bias = nnx.Param(jnp.zeros(architecture.vocabulary))
        self.dropout = nnx.Dropout(architecture.dropout, broadcast_dims=(1,))
        self.embedding_dropout = config.embedding_dropout

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """The state before the first token."""
        return tuple(layer.initial_state(batch_shape) for layer in self.layers)

    def outputs(
        self,
        tokens: Int[Array, "batch time"],
        state: State,
        key: Key | None = None,
        lengths: Int[Array, " batch"] | None = None,
    ) -> tuple[State, list[Float[jax.Array, "batch time _"]]]:
        """The state after the last token, and the outputs of each layer; with dropout if there is a key.

        Outputs of the last layer are returned before their dropout, `drop`.
        """
        table, keys = self.embedding[...], [None] * len(self.layers)
        if key is not None:
            own, *keys = jax.random.split(key, len(self.layers) + 1)
            table = regularizers.embedding_dropout(own, table, self.embedding_dropout)
        below, after, outputs = table[tokens], [], []
        for layer, before, layer_key in zip(self.layers, state, keys, strict=True):
            layer_state, below = layer(below, before, lengths, key=layer_key)
            after.append(layer_state)
            outputs.append(below)
        return tuple(after), outputs

    def drop(self, outputs: Float[Array, "batch time embedding"], key: Key) -> jax.Array:
        """Dropout on outputs of the last layer, with one mask for all steps."""
        return self.dropout(outputs, deterministic=False, rngs=nnx.Rngs(dropout=key))

    def loss(
        self,
        outputs: Float[Array, "batch time embedding"],
        targets: Int[Array, "batch time"],
        mask: Bool[Array, "batch time"],
    ) -> Mean:
        """The negative log-likelihood of the targets where the mask is true, in nats."""
        return token_loss(outputs, self.embedding[...].T, self.bias[...], targets, mask)

    def logits(self, outputs: Float[Array, "*batch embedding"]) -> Float[jax.Array, "*batch vocabulary"]:
        """Logits of the next token."""
        return outputs @ self.embedding[...].T + self.bias[...]


def regularized_loss(
    model: Functional, config: AWDConfig, params: Params, state: State, window: Window, key: Key
) -> tuple[jax.Array, tuple[State, dict[str, Mean]]]:
    """The training loss of a window; the state after it, and the metrics."""
    weights_key, layers_key, output_key = jax.random.split(key, 3)
    module = model.bind(regularizers.weight_drop(weights_key, params, config.weight_drop))
    lengths = jnp.asarray(window.lengths)
    state, outputs = module.outputs(window.inputs, carried(state, window), layers_key, lengths)
    dropped = module.drop(outputs[-1], output_key)
    nll = module.loss(dropped, window.targets, target_mask(window))
    size = regularizers.activation_penalty(dropped, lengths)
    change = regularizers.temporal_activation_penalty(outputs[-1], lengths)
    return nll.compute() + config.alpha * size + config.beta * change, (state, {"nll": nll})


def _cell(name: str, features: int, hidden: int) -> lstmjax.Cell:
    """A cell with PyTorch's initialization, uniform by its hidden size."""
    scale = hidden**-0.5
    options: dict[str, Any] = uniform_start(name, scale)
    if name == "lstm":
        options["forget_bias"] = SumOfTwoBiases(scale)
    return CELLS[name](features, hidden, **options)


@dataclasses.dataclass(frozen=True)
class SumOfTwoBiases:
    """The initial bias of PyTorch's LSTM, which adds two, each uniform in ``[-scale, scale)``."""

    scale: float

    def __call__(self, key: Key, hidden: int, dtype: Any = jnp.float32) -> jax.Array:
        """Biases ``[4, hidden]``."""
        return initializers.uniform(self.scale)(key, (2, 4, hidden), dtype).sum(axis=0)
