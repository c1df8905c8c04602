"""The encoder-decoder model: losses, translation, and attention weights."""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int

import lstmjax
from experiments.common.command_line import check_numbers
from experiments.common.text.subwords import END, START
from lstmjax import attention, decoding
from lstmjax.attention import Memory
from lstmjax.losses import vocabulary_cross_entropy
from lstmjax.metrics import Mean, Perplexity
from lstmjax.nnx import Functional, Holder, Recurrent
from lstmjax.training import ConfigError
from lstmjax.training.batching import Pairs
from lstmjax.types import Array, Key, Params, State

Attention = Literal["dot", "scaled_dot", "general", "bahdanau", "none"]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The hyperparameters of a model."""

    source_vocabulary: int
    """Number of subwords of the source language."""
    target_vocabulary: int
    """Number of subwords of the target language."""
    joint: bool
    """Both languages share one vocabulary and one embedding table."""
    embedding: int
    """Size of the embeddings and of the decoder outputs."""
    hidden: int
    """Hidden size of the decoder; each direction of the encoder has half of it."""
    layers: int
    """Number of encoder layers, and of decoder layers."""
    attention: Attention
    """Attention of the decoder; none for the model of Sutskever et al."""
    input_feeding: bool
    """The decoder's last output is fed into its next input (Luong et al.)."""
    dropout: float
    """Dropout rate on inputs and outputs of layers, with one mask for all steps of a sentence."""


class DecoderState(NamedTuple):
    """The state that a decoder carries from one step to the next."""

    layers: State
    """States of the recurrent layers."""
    output: jax.Array
    """``[batch, embedding]``: the previous output."""
    attention: State
    """State of the attention."""


class Decoded(NamedTuple):
    """The result of a decoder step."""

    output: jax.Array
    """``[batch, embedding]``: the vector that gives the logits of the next subword."""
    weights: jax.Array
    """``[batch, source time]``: attention weights; empty without attention."""


class Encoded(NamedTuple):
    """An encoded source."""

    memory: Memory | None
    """None without attention."""
    state: DecoderState
    """Initial state of the decoder."""


class Noise(NamedTuple):
    """Dropout masks of a decoder for a training step."""

    layers: Params
    """Parameters of the recurrent layers, with their masks."""
    output: jax.Array | float
    """Dropout factors ``[batch, embedding]`` of the outputs."""


class Translator(nnx.Module):
    """From subwords of one language to the distribution of the next subword of the other.

    With attention (Luong et al. 2015; Bahdanau et al. 2015) the encoder is bidirectional, and the initial
    state of the decoder is the concatenation of the last states of both directions. In Luong's decoder the
    new state is the query of the attention, and with input feeding the result is part of the next step's
    input; in Bahdanau's the old state is the query, and the context is an input of the same step. Without
    attention (Sutskever et al. 2014) the encoder reads the source in reverse, and each decoder layer starts
    from the last state of the encoder layer.

    The output layer shares the embedding table of the target (Press and Wolf 2017).

    Args:
      architecture: the hyperparameters.
      rngs: the stream ``params`` initializes the parameters.
    """

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        embedding, hidden, rate = architecture.embedding, architecture.hidden, architecture.dropout
        below = [embedding] + [hidden] * (architecture.layers - 1)
        table = nnx.initializers.normal(embedding**-0.5)
        self.architecture = nnx.static(architecture)
        self.target_embedding = nnx.Param(table(rngs.params(), (architecture.target_vocabulary, embedding)))
        shape = (architecture.source_vocabulary, embedding)
        source = None if architecture.joint else nnx.Param(table(rngs.params(), shape))
        self.source_embedding = nnx.data(source)
        if architecture.attention == "none":
            parts: list[Any] = [_dropped(size, hidden, rate) for size in below]
            looking, context, fed = None, 0, 0
        else:
            half = hidden // 2
            parts = [
                lstmjax.bidirectional(_dropped(size, half, rate), _dropped(size, half, rate))
                for size in below
            ]
            looking, context = Holder(_attention(architecture.attention, hidden), rngs=rngs), hidden
            fed = hidden if self.looks_first else embedding * architecture.input_feeding
        self.attention = nnx.data(looking)
        self.encoder = Recurrent(lstmjax.layers(*parts), rngs=rngs)
        cells = [_dropped(size, hidden, rate) for size in [embedding + fed, *below[1:]]]
        self.decoder = Recurrent(lstmjax.stack(*cells), rngs=rngs)
        self.combine = nnx.Linear(hidden + context, embedding, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(architecture.target_vocabulary))

    @property
    def looks_first(self) -> bool:
        """Whether the decoder attends before its recurrent step and not after it."""
        return self.architecture.attention == "bahdanau"

    def encode(
        self, source: Int[Array, "batch time"], lengths: Int[Array, " batch"], key: Key | None = None
    ) -> Encoded:
        """The encoded source; with dropout if there is a key."""
        table = self.target_embedding if self.source_embedding is None else self.source_embedding
        embedded = self._embed(table, source)
        has_attention = self.attention is not None
        states, values = self.encoder(embedded, lengths=lengths, reverse=not has_attention, key=key)
        if self.attention is None:
            layers, memory, looking = states, None, ()
        else:
            layers = tuple(jax.tree.map(_side_by_side, *state) for state in states)
            memory = self.attention.cell.prepare(self.attention.values, values, lengths)
            looking = self.attention.cell.initial_state(memory)
        output = jnp.zeros((len(source), self.architecture.embedding))
        return Encoded(memory, DecoderState(layers, output, looking))

    def noise(self, key: Key | None, batch: int) -> Noise:
        """The decoder's dropout masks for all steps of a batch; no dropout without a key."""
        values, rate = self.decoder.values, self.architecture.dropout
        if key is None or rate == 0:
            return Noise(values, 1.0)
        layer_key, output_key = jax.random.split(key)
        keep = jax.random.bernoulli(output_key, 1 - rate, (batch, self.architecture.embedding))
        return Noise(self.decoder.cell.sample(layer_key, values, (batch,)), keep / (1 - rate))

    def step(
        self, noise: Noise, memory: Memory | None, state: DecoderState, tokens: Int[Array, " batch"]
    ) -> tuple[DecoderState, Decoded]:
        """Advance by one subword."""
        inputs, looking = [self._embed(self.target_embedding, tokens)], state.attention
        if self.looks_first:
            glimpse, looking = self._look(memory, state.layers[-1].hidden, looking)
            inputs.append(glimpse.context)
        elif self.architecture.input_feeding and memory is not None:
            inputs.append(state.output)
        layers, hidden = self.decoder.cell.step(noise.layers, state.layers, jnp.concatenate(inputs, axis=-1))
        seen, weights = [hidden], jnp.zeros((len(tokens), 0))
        if memory is not None:
            if not self.looks_first:
                glimpse, looking = self._look(memory, hidden, looking)
            seen.append(glimpse.context)
            weights = glimpse.weights
        output = jnp.tanh(self.combine(jnp.concatenate(seen, axis=-1))) * noise.output
        return DecoderState(layers, output, looking), Decoded(output, weights)

    def outputs(
        self,
        encoded: Encoded,
        tokens: Int[Array, "batch time"],
        key: Key | None = None,
        own_rate: Float[Array, ""] | float = 0.0,
    ) -> tuple[Float[jax.Array, "batch time embedding"], Float[jax.Array, "batch time source"]]:
        """Outputs after each of the given subwords, and the attention weights.

        Args:
          encoded: the source.
          tokens: the decoder inputs, subword by subword.
          key: for dropout and scheduled sampling.
          own_rate: the rate at which the decoder is fed its own likeliest subword instead of the given one
            (scheduled sampling, Bengio et al. 2015); 0 for never.
        """
        batch, time = tokens.shape
        noise_key, choice_key = (None, None) if key is None else jax.random.split(key)
        noise = self.noise(noise_key, batch)
        samples = choice_key is not None and not (isinstance(own_rate, float) and own_rate == 0)
        if encoded.memory is None and not samples:
            embedded = self._embed(self.target_embedding, tokens)
            _, hidden = lstmjax.unroll(self.decoder.cell, noise.layers, embedded, encoded.state.layers)
            factors = noise.output if isinstance(noise.output, float) else noise.output[:, None]
            return jnp.tanh(self.combine(hidden)) * factors, jnp.zeros((batch, time, 0))

        def body(state: DecoderState, step: Any) -> tuple[DecoderState, Decoded]:
            given, is_own = step
            if is_own is not None:
                likeliest = jnp.argmax(self.logits(state.output), axis=-1).astype(given.dtype)
                given = jnp.where(is_own, likeliest, given)
            return self.step(noise, encoded.memory, state, given)

        own = None
        if samples and choice_key is not None:
            own = jax.random.bernoulli(choice_key, own_rate, (time, batch)).at[0].set(False)
        _, decoded = jax.lax.scan(body, encoded.state, (tokens.T, own))
        return jnp.moveaxis(decoded.output, 0, 1), jnp.moveaxis(decoded.weights, 0, 1)

    def logits(self, outputs: Float[Array, "*batch embedding"]) -> Float[jax.Array, "*batch vocabulary"]:
        """Logits of the next subword."""
        return outputs @ self.target_embedding[...].T + self.bias[...]

    def losses(
        self,
        outputs: Float[Array, "batch time embedding"],
        targets: Int[Array, "batch time"],
        weights: Float[Array, "batch time"],
    ) -> tuple[jax.Array, jax.Array]:
        r"""Sums of the targets' negative log-likelihood, and of its mean over all subwords, in nats.

        The mean over all v of log sum exp l - l_v differs from the target's value by l_y minus the mean of
        the logits, which is the logit of the mean row of the table, so the full logits are not needed.
        """
        table, bias = self.target_embedding[...], self.bias[...]
        nll = vocabulary_cross_entropy(outputs, table.T, bias, targets, weights)
        right = (outputs * table[targets]).sum(-1) + bias[targets]
        mean = outputs @ table.mean(0) + bias.mean()
        return nll, nll + (weights * (right - mean)).sum()

    def _embed(self, table: nnx.Param, tokens: Array) -> jax.Array:
        """Embeddings scaled to initial variance 1; the table itself is initialized as a readout."""
        return table[...][tokens] * self.architecture.embedding**0.5

    def _look(self, memory: Memory | None, query: jax.Array, state: State) -> Any:
        assert self.attention is not None
        assert memory is not None
        return self.attention.cell.attend(self.attention.values, memory, query, state)


def _dropped(features: int, hidden: int, rate: float) -> lstmjax.Cell:
    cell = lstmjax.lstm(features, hidden)
    return lstmjax.dropout(cell, inputs=rate, outputs=rate) if rate else cell


def _attention(kind: Attention, hidden: int) -> attention.Attention:
    if kind == "bahdanau":
        return attention.bahdanau(hidden, hidden, units=hidden // 2)
    assert kind != "none"
    return attention.luong(hidden, hidden, score=kind)


def _side_by_side(forward: jax.Array, backward: jax.Array) -> jax.Array:
    return jnp.concatenate([forward, backward], axis=-1)


def teacher_inputs(targets: Int[Array, "batch time"]) -> Int[jax.Array, "batch time"]:
    """Decoder inputs for teacher forcing: `START`, and each target except the last."""
    return jnp.concatenate([jnp.full_like(targets[:, :1], START), targets[:, :-1]], axis=1)


def pair_losses(
    model: Functional, params: Params, batch: Pairs, key: Key | None = None, own_rate: Any = 0.0
) -> tuple[Mean, Mean]:
    """Means over the target subwords: of the negative log-likelihood, and of its mean over the vocabulary."""
    module = model.bind(params)
    encoder_key, decoder_key = (None, None) if key is None else jax.random.split(key)
    encoded = module.encode(jnp.asarray(batch.source.values), jnp.asarray(batch.source.lengths), encoder_key)
    targets = jnp.asarray(batch.target.values)
    outputs, _ = module.outputs(encoded, teacher_inputs(targets), decoder_key, own_rate)
    mask = jnp.arange(targets.shape[1]) < batch.target.lengths[:, None]
    weights = mask.astype(jnp.float32)
    nll, uniform = module.losses(outputs, targets, weights)
    return Mean(nll, weights.sum()), Mean(uniform, weights.sum())


def evaluate_pairs(model: Functional, params: Params, batch: Pairs) -> dict[str, Mean]:
    """The metrics of a batch."""
    nll, _ = pair_losses(model, params, batch)
    return {"nll": nll, "perplexity": Perplexity(*nll)}


MOST_BEAMS = 1000
"""The largest beam size; memory grows with it."""


@dataclasses.dataclass(frozen=True)
class Search:
    """Settings of the search for translations."""

    beams: int = 5
    """Beam size; 1 for greedy decoding."""
    length_penalty: float = 1.0
    """Alpha of Wu et al. 2016: higher values favour longer translations."""
    coverage_penalty: float = 0.0
    """Beta of Wu et al. 2016: higher values favour attention over the whole source."""

    def __post_init__(self) -> None:
        check_numbers(self, positive=("beams",), not_negative=("length_penalty", "coverage_penalty"))
        if self.beams > MOST_BEAMS:
            raise ConfigError(f"beams must be at most {MOST_BEAMS}, got {self.beams}.")


def translate(
    model: Functional,
    params: Params,
    source: Int[Array, "batch time"],
    lengths: Int[Array, " batch"],
    search: Search,
    max_length: int,
) -> tuple[Int[jax.Array, "batch max_length"], Float[jax.Array, " batch"]]:
    """The best translation found for each source, followed by `END`, and its log-probability."""
    # The penalty is an argument of the compiled search, so that other values need no compilation.
    penalty, search = jnp.float32(search.length_penalty), dataclasses.replace(search, length_penalty=0.0)
    return _translate(model, params, source, lengths, penalty, search, max_length)


@functools.partial(jax.jit, static_argnames=("model", "search", "max_length"))
def _translate(
    model: Functional,
    params: Params,
    source: jax.Array,
    lengths: jax.Array,
    length_penalty: jax.Array,
    search: Search,
    max_length: int,
) -> tuple[jax.Array, jax.Array]:
    module = model.bind(params)
    encoded = module.encode(source, lengths)
    noise, memory = module.noise(None, len(source)), encoded.memory
    mask = jnp.zeros((len(source), 0), bool) if memory is None else memory.mask

    def step(state: tuple[DecoderState, jax.Array], tokens: jax.Array) -> Any:
        before, coverage = state
        after, decoded = module.step(noise, memory, before, tokens)
        return (after, coverage + decoded.weights), module.logits(decoded.output)

    start = encoded.state, jnp.zeros(mask.shape)
    if search.beams == 1:
        found = decoding.greedy(step, start, START, END, max_length)
        return found.tokens, found.log_probs
    hypotheses = decoding.beam_search(
        step,
        start,
        START,
        END,
        max_length,
        search.beams,
        decoding.gnmt_length_penalty(length_penalty),
        coverage=lambda state: state[1],
        coverage_penalty=search.coverage_penalty,
        coverage_mask=mask,
    )
    return hypotheses.tokens[:, 0], hypotheses.log_probs[:, 0]


@functools.partial(jax.jit, static_argnames="model")
def alignments(
    model: Functional,
    params: Params,
    source: Int[Array, "batch time"],
    lengths: Int[Array, " batch"],
    targets: Int[Array, "batch target_time"],
) -> Float[jax.Array, "batch target_time time"]:
    """Attention weights of the decoder for each subword of the targets."""
    module = model.bind(params)
    return module.outputs(module.encode(source, lengths), teacher_inputs(targets))[1]
