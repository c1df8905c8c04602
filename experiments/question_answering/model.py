r"""Networks that read a story and a question and give a distribution over answers.

`SequenceReader` is the baseline of Weston et al. 2015: story and question are one sequence of words, an LSTM
reads it, and its last hidden state gives the logits of the answer.

`AttentiveReader` reads sentence by sentence, conditioned on the question:

1. A bidirectional LSTM reads the words w_i of a sentence; the sentence vector is
   :math:`x = n^{-1/2} \sum_{i=1}^n (w_i + h_i)`. The question vector q is computed by the same network.
2. Layers of bidirectional LSTMs read the sentences in temporal order. The input of a layer at sentence t is
   the sentence vector, the current query g_t, and features of how well they match,
   :math:`[x_t; g_t; x_t \circ g_t; m(x_t, q); m(x_t, g_t)]`, where m is a product of linear maps, summed over
   a few groups of units. The layer's output h_t and the matches control a gate z_t; a recurrence keeps the
   last gated sentence, :math:`c_t = z_t x_t + (1 - z_t) c_{t-1}`, and likewise in reverse. Both update the
   query: :math:`g^{l+1}_t = g^l_t + h_t + M [\overrightarrow{c}_t; \overleftarrow{c}_t]` with
   :math:`g^0_t = q`. So the query can change while reading, from where the milk is to where Mary is.
3. An LSTM attends to the sentences, each represented by its last g_t, in a number of hops: its first input is
   q, its output is the query of an attention, and the attention's result is its next input.
4. The logits of the answer are computed from its last output, the last attention result, and q.

The second step follows the query-reduction networks of Seo et al. 2017 (arXiv:1606.04582), the third
the memory networks of Sukhbaatar et al. 2015 (arXiv:1503.08895).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Bool, Float, Int

import lstmjax
from experiments.question_answering.data import SentenceBatch, SequenceBatch
from lstmjax import attention
from lstmjax.attention.content import ProductParams
from lstmjax.nnx import LSTM, Bidirectional
from lstmjax.types import Array, DTypeLike, Key


class Architecture(NamedTuple):
    """The hyperparameters of a reader."""

    words: int
    """Size of the vocabulary."""
    answers: int
    """Number of answers."""
    hidden: int
    """Hidden units of each LSTM; of each direction, if there are two."""
    embedding: int
    """Size of the word embeddings of the sequence reader; the attentive reader has twice the hidden size."""
    layers: int
    """Number of recurrent layers over the sentences of a story."""
    hops: int
    """Number of attention hops of the attentive reader."""
    matches: int
    """Number of match features between a sentence and the query."""
    dropout: float
    """Dropout rate on words, sentences, outputs of layers, and the input of the readout."""


class Reading(NamedTuple):
    """The output of a reader."""

    logits: Float[jax.Array, "rows answers"]
    weights: Float[jax.Array, "rows hops time"] | None
    """Attention weights of each hop; None for a reader without attention."""


class SequenceReader(nnx.Module):
    """An LSTM over the words of story and question.

    Args:
      numbers: its hyperparameters.
      rngs: the stream ``params`` initializes the parameters.
    """

    def __init__(self, numbers: Architecture, *, rngs: nnx.Rngs) -> None:
        self.embedding = _embedding(numbers.words, numbers.embedding, rngs)
        self.layer = LSTM(numbers.embedding, numbers.hidden, rngs=rngs)
        self.readout = nnx.Linear(numbers.hidden, numbers.answers, rngs=rngs)
        self.dropout = numbers.dropout

    def __call__(self, batch: SequenceBatch, key: Key | None = None) -> Reading:
        """Logits of the answers; with dropout if there is a key."""
        noise = Noise(key, self.dropout)
        state, _ = self.layer(noise(self.embedding(batch.words)), lengths=batch.lengths)
        return Reading(self.readout(noise(state.hidden)), None)


class AttentiveReader(nnx.Module):
    """Bidirectional LSTMs over words and over sentences, and hops of attention by an LSTM: see above.

    Args:
      numbers: its hyperparameters.
      rngs: the stream ``params`` initializes the parameters.
    """

    def __init__(self, numbers: Architecture, *, rngs: nnx.Rngs) -> None:
        hidden, size = numbers.hidden, 2 * numbers.hidden
        guided = 3 * size + 2 * numbers.matches
        self.embedding = _embedding(numbers.words, size, rngs)
        self.sentence = Bidirectional(lstmjax.lstm(size, hidden), lstmjax.lstm(size, hidden), rngs=rngs)
        self.story = nnx.List(
            Bidirectional(lstmjax.lstm(guided, hidden), lstmjax.lstm(guided, hidden), rngs=rngs)
            for _ in range(numbers.layers)
        )
        gated = size + 2 * numbers.matches
        self.gates = nnx.List(nnx.Linear(gated, 2, rngs=rngs) for _ in range(numbers.layers))
        self.mixes = nnx.List(
            nnx.Linear(2 * size, size, use_bias=False, kernel_init=twice_identity, rngs=rngs)
            for _ in range(numbers.layers)
        )
        self.match = nnx.List(Match(size, numbers.matches, rngs=rngs) for _ in range(2))
        self.kind = nnx.static(attention.luong(size, size, "general"))
        self.attention = nnx.data(jax.tree.map(nnx.Param, self.kind.init(rngs.params())))
        self.controller = LSTM(size, size, rngs=rngs)
        self.readout = nnx.Linear(3 * size, numbers.answers, rngs=rngs)
        self.hops, self.dropout = numbers.hops, numbers.dropout

    def __call__(self, batch: SentenceBatch, key: Key | None = None) -> Reading:
        """Logits of the answers, and attention weights of each hop; with dropout if there is a key."""
        noise = Noise(key, self.dropout)
        texts = self.read_sentences(noise(self.embedding(batch.sentences)), batch.sentence_lengths)
        sentences, question = noise(texts[batch.story]), noise(texts[batch.question])
        memory = self.read_story(sentences, question, batch.story_lengths, noise)
        return self.look(memory, question, batch.story_lengths, noise)

    def read_sentences(
        self, words: Float[Array, "distinct words size"], lengths: Int[Array, " distinct"]
    ) -> Float[jax.Array, "distinct size"]:
        """Step 1: a vector for each sentence or question."""
        _, outputs = self.sentence(words, lengths=lengths)
        there = jnp.arange(words.shape[1]) < lengths[:, None]
        total = jnp.where(there[..., None], words + outputs, 0).sum(axis=1)
        return total / jnp.sqrt(jnp.maximum(lengths, 1))[:, None]

    def read_story(
        self,
        sentences: Float[Array, "rows time size"],
        question: Float[Array, "rows size"],
        lengths: Int[Array, " rows"],
        noise: "Noise",
    ) -> Float[jax.Array, "rows time size"]:
        """Step 2: the query at each sentence, after the last layer."""
        asked, valid = question[:, None], jnp.arange(sentences.shape[1]) < lengths[:, None]
        guide = jnp.broadcast_to(asked, sentences.shape)
        for layer, gate, mix in zip(self.story, self.gates, self.mixes, strict=True):
            matches = [self.match[0](sentences, asked), self.match[1](sentences, guide)]
            inputs = jnp.concatenate([sentences, guide, sentences * guide, *matches], axis=-1)
            _, outputs = layer(inputs, lengths=lengths)
            opening = gate(jnp.concatenate([*matches, outputs], axis=-1))
            before = recall(opening[..., 0], sentences, valid)
            after = recall(opening[..., 1], sentences, valid, reverse=True)
            guide = guide + noise(outputs) + mix(jnp.concatenate([before, after], axis=-1))
        return guide

    def look(
        self,
        memory: Float[Array, "rows time size"],
        question: Float[Array, "rows size"],
        lengths: Int[Array, " rows"],
        noise: "Noise",
    ) -> Reading:
        """Steps 3 and 4: the attention hops and the readout."""
        kind, params = self.kind, ProductParams(self.attention.kernel[...])
        seen = kind.prepare(params, memory, lengths)
        looking, context = kind.initial_state(seen), question
        state, weights = self.controller.initial_state(question.shape[:-1]), []
        for _ in range(self.hops):
            state, output = self.controller.step(state, context)
            glimpse, looking = kind.attend(params, seen, output, looking)
            context = glimpse.context
            weights.append(glimpse.weights)
        _, output = self.controller.step(state, context)
        logits = self.readout(noise(jnp.concatenate([output, context, question], axis=-1)))
        return Reading(logits, jnp.stack(weights, axis=1))


def recall(
    opening: Float[Array, "rows time"],
    values: Float[Array, "rows time size"],
    valid: Bool[Array, "rows time"],
    reverse: bool = False,
) -> Float[jax.Array, "rows time size"]:
    r"""The gated recurrence :math:`c_t = z_t x_t + (1 - z_t) c_{t-1}`, for all steps at once.

    Args:
      opening: logits of the gates z.
      values: x.
      valid: where a gate can open.
      reverse: run from the end to the beginning.
    """
    if reverse:
        return recall(opening[:, ::-1], values[:, ::-1], valid[:, ::-1])[:, ::-1]
    gates = jnp.where(valid, jax.nn.sigmoid(opening), 0)
    kept = jnp.cumsum(jnp.where(valid, jax.nn.log_sigmoid(-opening), 0), axis=1)
    past = jnp.tri(opening.shape[1], dtype=bool)
    since = jnp.where(past, kept[:, :, None] - kept[:, None, :], -jnp.inf)
    return (jnp.exp(since) * gates[:, None, :]) @ values


class Match(nnx.Module):
    """Match features of two vectors: products of linear maps that are initialized near the identity.

    The first feature sums over all units, each of the others over one group of them.
    """

    def __init__(self, size: int, numbers: int, *, rngs: nnx.Rngs) -> None:
        self.left, self.right = (
            nnx.Linear(size, size, use_bias=False, kernel_init=near_identity, rngs=rngs) for _ in range(2)
        )
        self.numbers = numbers

    def __call__(
        self, left: Float[Array, "*batch size"], right: Float[Array, "*other size"]
    ) -> Float[jax.Array, "*batch numbers"]:
        """The match features of each pair, with broadcasting."""
        products = self.left(left) * self.right(right)
        parts = products.reshape(*products.shape[:-1], self.numbers, -1).sum(axis=-1)
        return jnp.concatenate([parts.sum(axis=-1, keepdims=True), parts[..., 1:]], axis=-1)


class Noise:
    """Dropout with a new mask in each call; none without a key."""

    def __init__(self, key: Key | None, rate: float) -> None:
        self.key, self.rate, self.calls = key, rate, 0

    def __call__(self, values: Float[Array, "*shape"]) -> Float[jax.Array, "*shape"]:
        """The values, some dropped and the others scaled up."""
        if self.key is None or not self.rate:
            return jnp.asarray(values)
        kept = jax.random.bernoulli(jax.random.fold_in(self.key, self.calls), 1 - self.rate, values.shape)
        self.calls += 1
        return jnp.where(kept, values / (1 - self.rate), 0)


def near_identity(key: Key, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Initializer of a square matrix: near the identity, so that similar vectors match."""
    return jnp.eye(shape[0], shape[1], dtype=dtype) + 0.02 * jax.random.normal(key, shape, dtype)


def twice_identity(key: Key, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Initializer of two square matrices, one above the other: each near half the identity."""
    size = shape[-1]
    return jnp.concatenate([near_identity(each, (size, size), dtype) for each in jax.random.split(key)]) / 2


def _embedding(words: int, size: int, rngs: nnx.Rngs) -> nnx.Embed:
    return nnx.Embed(words, size, embedding_init=nnx.initializers.normal(0.3), rngs=rngs)
