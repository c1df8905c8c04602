"""An encoder and a decoder between two languages: losses, translations, and where the decoder looks."""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int

import lstmjax
from experiments.common.text.subwords import END, START
from lstmjax import attention, decoding
from lstmjax.attention import Memory
from lstmjax.losses import vocabulary_cross_entropy
from lstmjax.metrics import Mean, Perplexity
from lstmjax.nnx import Functional, Holder, Recurrent
from lstmjax.training.batching import Pairs
from lstmjax.types import Array, Key, Params, State

Attention = Literal["dot", "scaled_dot", "general", "bahdanau", "none"]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The numbers of a model."""

    source_vocabulary: int
    """Number of pieces of the source language."""
    target_vocabulary: int
    """Number of pieces of the target language."""
    joint: bool
    """Both languages have one vocabulary, and one table of embeddings."""
    embedding: int
    """Size of an embedding, and of what the next piece is read from."""
    hidden: int
    """Size of a decoder's state; each direction of an encoder has half of it."""
    layers: int
    """Number of layers of encoder and decoder each."""
    attention: Attention
    """How the decoder looks at the source; none for the form of Sutskever et al."""
    input_feeding: bool
    """The decoder's last output is part of its next input (Luong et al.)."""
    dropout: float
    """Rate at which inputs and outputs of layers are dropped, the same ones in all steps of a sentence."""


class DecoderState(NamedTuple):
    """What a decoder carries from one piece to the next."""

    layers: State
    """States of the recurrent layers."""
    output: jax.Array
    """``[batch, embedding]``: the last output."""
    attention: State
    """That of the attention."""


class Decoded(NamedTuple):
    """What a step of a decoder gives."""

    output: jax.Array
    """``[batch, embedding]``: what the next piece is read from."""
    weights: jax.Array
    """``[batch, source time]``: where it looked; no entry without attention."""


class Encoded(NamedTuple):
    """A source as the decoder sees it."""

    memory: Memory | None
    """None without attention."""
    state: DecoderState
    """What the decoder begins with."""


class Noise(NamedTuple):
    """What is dropped of a decoder in a training step."""

    layers: Params
    """Parameters of the recurrent layers with their masks."""
    output: jax.Array | float
    """Factors ``[batch, embedding]`` of the outputs."""


class Translator(nnx.Module):
    """From pieces of one language to the distribution of the next piece of the other.

    With attention (Luong et al. 2015; Bahdanau et al. 2015) the encoder is bidirectional, and the decoder
    begins with both directions' last states side by side. Luong's decoder looks at the source with its new
    state, and what it has seen goes into the next step if there is input feeding; Bahdanau's looks with its
    old state, and what it has seen goes into this step. Without attention (Sutskever et al. 2014) the encoder
    reads the source from its end to its beginning, and the decoder goes on from each layer's last state.

    The output is read by the table of the target's embeddings (Press and Wolf 2017).

    Args:
      architecture: the numbers.
      rngs: the stream ``params`` starts the parameters.
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
        """Whether the decoder looks at the source before its step and not after it."""
        return self.architecture.attention == "bahdanau"

    def encode(
        self, source: Int[Array, "batch time"], lengths: Int[Array, " batch"], key: Key | None = None
    ) -> Encoded:
        """What the decoder sees of a source; with dropout if there is a key."""
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
        """What is dropped of the decoder in all steps of a batch: nothing without a key."""
        values, rate = self.decoder.values, self.architecture.dropout
        if key is None or rate == 0:
            return Noise(values, 1.0)
        layer_key, output_key = jax.random.split(key)
        keep = jax.random.bernoulli(output_key, 1 - rate, (batch, self.architecture.embedding))
        return Noise(self.decoder.cell.sample(layer_key, values, (batch,)), keep / (1 - rate))

    def step(
        self, noise: Noise, memory: Memory | None, state: DecoderState, tokens: Int[Array, " batch"]
    ) -> tuple[DecoderState, Decoded]:
        """Advance by one piece."""
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
        """Outputs after each of the given pieces, and where the decoder looked.

        Args:
          encoded: the source.
          tokens: what the decoder is given, piece by piece.
          key: for dropout, and for the choice of what follows.
          own_rate: how often the decoder is given the piece that it takes for the likeliest itself, in place
            of the given one (scheduled sampling, Bengio et al. 2015); 0 for never.
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
        """Logits of the next piece."""
        return outputs @ self.target_embedding[...].T + self.bias[...]

    def losses(
        self,
        outputs: Float[Array, "batch time embedding"],
        targets: Int[Array, "batch time"],
        weights: Float[Array, "batch time"],
    ) -> tuple[jax.Array, jax.Array]:
        r"""Sums of the negative log-likelihood of the targets, and of the mean one of all pieces, in nats.

        The mean over all v of log sum exp l - l_v differs from the target's by l_y less the mean of the
        logits, which is the logit of the mean row: the logits need not be there.
        """
        table, bias = self.target_embedding[...], self.bias[...]
        nll = vocabulary_cross_entropy(outputs, table.T, bias, targets, weights)
        right = (outputs * table[targets]).sum(-1) + bias[targets]
        mean = outputs @ table.mean(0) + bias.mean()
        return nll, nll + (weights * (right - mean)).sum()

    def _embed(self, table: nnx.Param, tokens: Array) -> jax.Array:
        """Embeddings of variance 1 in the beginning, though the table's own is that of a readout."""
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
    """What a decoder is given when the targets are known: `START`, and each target but the last."""
    return jnp.concatenate([jnp.full_like(targets[:, :1], START), targets[:, :-1]], axis=1)


def pair_losses(
    model: Functional, params: Params, batch: Pairs, key: Key | None = None, own_rate: Any = 0.0
) -> tuple[Mean, Mean]:
    """Means over the pieces of the targets: of the negative log-likelihood, and that of all pieces alike."""
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


@dataclasses.dataclass(frozen=True)
class Search:
    """How translations are sought."""

    beams: int = 5
    """Hypotheses kept at a time; 1 for greedy decoding."""
    length_penalty: float = 1.0
    """Alpha of Wu et al. 2016: the higher, the longer translations may be."""
    coverage_penalty: float = 0.0
    """Beta of Wu et al. 2016: the higher, the more of the source must have been looked at."""


def translate(
    model: Functional,
    params: Params,
    source: Int[Array, "batch time"],
    lengths: Int[Array, " batch"],
    search: Search,
    max_length: int,
) -> tuple[Int[jax.Array, "batch max_length"], Float[jax.Array, " batch"]]:
    """The best translation of each source that is found, `END` after it; and its log-probability."""
    # The penalty is an argument of the compiled search, so that trying others compiles nothing.
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
    """Where the decoder looks when it gives each piece of the targets."""
    module = model.bind(params)
    return module.outputs(module.encode(source, lengths), teacher_inputs(targets))[1]
