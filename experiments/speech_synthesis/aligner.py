"""Aligns prompts with their phones, by a bidirectional LSTM of our own.

It first learns phones by connectionist temporal classification, from prompts of known phones alone. Its
posteriors are peaks, and say little of where a phone begins. So the Viterbi alignment of these peaks, with
boundaries half way between them, is what a second network learns frame by frame, its class 0 being the pause;
the phones are aligned anew with its likelihoods (posteriors by priors), and so on.

Sources: Graves et al. 2006 (ICML) for the loss; Bourlard and Morgan 1994 for likelihoods from posteriors.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int

import lstmjax
from experiments.datasets import Splits
from experiments.datasets.asterisk import RATE, Prompt
from experiments.datasets.audio import log_mel
from experiments.speech_synthesis.alignment import STEP, Timed
from experiments.speech_synthesis.text import PAUSE, PHONES, RESPELLED, Phone, phones
from lstmjax import decoding, losses, training
from lstmjax.metrics import Mean
from lstmjax.nnx import Recurrent, functional
from lstmjax.training.batching import PairBatches, Pairs
from lstmjax.types import Key, Params

BANDS, WINDOW = 40, 0.025

CLASSES = 1 + len(PHONES)
"""The blank of the first network and the pause of the others, then the phones."""

QUIET = -6.0
"""A step is quiet if the log energy of all bands is below."""

SHORTEST_PAUSE = 8
"""Quiet steps between two words that are a pause."""

LONGEST = 900
"""Prompts of more steps are aligned, but not learnt from."""


class Aligner(nnx.Module):
    """A convolution over five steps, a bidirectional LSTM, and the logits of the phones of each step."""

    def __init__(self, hidden: int = 96, *, rngs: nnx.Rngs) -> None:
        self.window = nnx.Conv(BANDS, 80, (5,), rngs=rngs)
        cell = lstmjax.dropout(lstmjax.lstm(80, hidden), outputs=0.2)
        self.recurrent = Recurrent(lstmjax.bidirectional(cell, cell), rngs=rngs)
        self.readout = nnx.Linear(2 * hidden, CLASSES, rngs=rngs)

    def __call__(
        self,
        energies: Float[np.ndarray, "batch time bands"],
        lengths: Int[np.ndarray, " batch"],
        key: Key | None = None,
    ) -> Float[jax.Array, "batch time classes"]:
        """Logits, undefined beyond the lengths."""
        _, outputs = self.recurrent(jax.nn.relu(self.window(energies)), lengths=lengths, key=key)
        return self.readout(outputs)


MODEL = functional(functools.partial(Aligner))

Loss = Callable[[jax.Array, Pairs], Mean]


def ctc(logits: jax.Array, batch: Pairs) -> Mean:
    """Nats for each phone; rows with too few steps for their phones do not count."""
    given = (batch.source.lengths, batch.target.values, batch.target.lengths)
    usable = losses.ctc_feasible(*given) & (batch.target.lengths > 0)
    total = jnp.where(usable, losses.ctc(logits, *given), 0).sum()
    return Mean(total, jnp.where(usable, batch.target.lengths, 0).sum().astype(total.dtype))


def framewise(logits: jax.Array, batch: Pairs) -> Mean:
    """Nats for each step."""
    there = jnp.arange(logits.shape[1]) < batch.source.lengths[:, None]
    return Mean.of(losses.cross_entropy(logits, jnp.asarray(batch.target.values), there), there)


class Heard(NamedTuple):
    """A prompt as the aligner sees it."""

    energies: Float[np.ndarray, "steps bands"]
    """Standardized by the training split."""
    quiet: Bool[np.ndarray, " steps"]
    phones: list[Phone]

    @property
    def labels(self) -> Int[np.ndarray, " phones"]:
        """The classes of the phones."""
        return np.array([1 + PHONES.index(phone.symbol) for phone in self.phones], np.int32)


def energies(samples: Float[np.ndarray, " time"]) -> Float[np.ndarray, "steps bands"]:
    """Log mel energies of every step of 10 ms, each window centred at the middle of its step."""
    steps, before = len(samples) // STEP, (round(WINDOW * RATE) - STEP) // 2
    padded = np.pad(samples, (before, round(WINDOW * RATE)))
    return log_mel(padded, RATE, BANDS, WINDOW, STEP / RATE)[:steps]


def hear(parts: Splits[Prompt]) -> Splits[Heard]:
    """The energies and phones of prompts."""
    raw = [[energies(each.samples) for each in part] for part in parts]
    train = np.concatenate(raw[0])
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    return Splits(
        *(
            tuple(
                Heard(
                    ((own - mean) / deviation).astype(np.float32),
                    own.max(axis=1) < QUIET,
                    phones(RESPELLED.get(each.name, each.text)),
                )
                for own, each in zip(values, part, strict=True)
            )
            for values, part in zip(raw, parts, strict=True)
        )
    )


def _learn(loss_of: Loss, train: PairBatches, valid: PairBatches, epochs: int, rate: float) -> Params:
    """The best parameters of a network after some passes over the training split."""

    def loss(params: Params, batch: Pairs, key: Key) -> tuple[jax.Array, training.Metrics]:
        logits = MODEL.bind(params)(jnp.asarray(batch.source.values), batch.source.lengths, key)
        found = loss_of(logits, batch)
        return found.compute(), {"nll": found}

    def evaluate(params: Params, batch: Pairs) -> training.Metrics:
        logits = MODEL.bind(params)(jnp.asarray(batch.source.values), batch.source.lengths)
        return {"nll": loss_of(logits, batch)}

    task = training.Task.plain(
        init=MODEL.init, loss=loss, batch=train.at, evaluate=evaluate, valid=valid.once
    )
    every = train.steps_per_epoch
    settings = training.TrainConfig(
        steps=epochs * every, learning_rate=rate, schedule="cosine", evaluate_every=2 * every, log_every=10**6
    )
    return training.fit(task, settings).best.params


@jax.jit
def _viterbi(
    params: Params,
    values: jax.Array,
    length: jax.Array,
    labels: jax.Array,
    number: jax.Array,
    prior: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The phone of each step, -1 for blanks, and the mean log likelihood of a step."""
    logits = jax.nn.log_softmax(MODEL.bind(params)(values[None], length[None])[0]) - prior
    owner = decoding.ctc_align(logits, length, labels, number)
    classes = jnp.where(owner < 0, 0, labels[owner])
    scores = jnp.take_along_axis(logits, classes[:, None], axis=1)[:, 0]
    there = jnp.arange(len(values)) < length
    return owner, jnp.where(there, scores, 0).sum() / length


def owners(params: Params, heard: Heard, prior: Float[np.ndarray, " classes"]) -> tuple[np.ndarray, float]:
    """The index of the phone of each step, -1 for pauses, and the mean log likelihood of a step.

    The first and the last step are pauses.
    """
    inner, number = heard.energies[1:-1], len(heard.phones)
    time = len(inner)
    values = np.pad(inner, ((0, -time % 512), (0, 0)))
    labels = np.pad(heard.labels, (0, -number % 64), constant_values=1)
    owner, score = _viterbi(params, values, np.int32(time), labels, np.int32(number), prior)
    return filled(np.pad(np.asarray(owner)[:time], 1, constant_values=-1), heard), float(score)


def filled(owner: Int[np.ndarray, " steps"], heard: Heard) -> Int[np.ndarray, " steps"]:
    """An alignment without blanks inside of words: these go to the phones beside them, in halves.

    Between words, what is quiet for long enough is a pause, and so is what is quiet at the ends.
    """
    places = [np.flatnonzero(owner == phone) for phone in range(len(heard.phones))]
    edges = [(0, 0), *((own[0], own[-1] + 1) for own in places), (len(owner), len(owner))]
    full = np.full(len(owner), -1)
    for number, (start, end) in enumerate(edges[1:-1]):
        full[start:end] = number
    for phone in range(-1, len(places)):
        (_, start), (end, _) = edges[phone + 1 : phone + 3]
        first, last = phone == -1, phone == len(places) - 1
        quiet = start + np.flatnonzero(heard.quiet[start:end])
        outside = first or last
        if (outside or heard.phones[phone + 1].starts) and len(quiet) >= (1 if outside else SHORTEST_PAUSE):
            full[start : start if first else quiet[0]] = phone
            full[end if last else quiet[-1] + 1 : end] = phone + 1
            continue
        middle = start if first else end if last else (start + end) // 2
        full[start:middle] = phone
        full[middle:end] = phone + 1
    full[[0, -1]] = -1
    return full


def align(
    parts: Splits[Prompt], epochs: int = 15, again: int = 5, rounds: int = 2
) -> list[tuple[str, float, list[Timed]]]:
    """The timed phones of all prompts, with their names and the mean log likelihood of a step.

    Args:
      parts: the prompts; the networks learn from the training split.
      epochs: passes over it with connectionist temporal classification.
      again: passes of each of the networks after it, frame by frame.
      rounds: the number of these networks.
    """
    heard = hear(parts)
    every = [each for part in heard for each in part]
    train, valid = ([each for each in part if len(each.energies) <= LONGEST] for part in heard[:2])

    def batches(chosen: Sequence[Heard], labels: Sequence[np.ndarray], buckets: int) -> PairBatches:
        return PairBatches([each.energies for each in chosen], labels, 3000, buckets)

    pairs = [batches(part, [each.labels for each in part], 4) for part in (train, valid)]
    params = _learn(ctc, pairs[0], pairs[1], epochs, 4e-3)
    prior = np.zeros(CLASSES, np.float32)
    for _ in range(rounds):
        found = [[_classes(owners(params, each, prior)[0], each) for each in part] for part in (train, valid)]
        counts = 1 + np.bincount(np.concatenate(found[0]), minlength=CLASSES)
        pairs = [batches(part, own, 4) for part, own in zip((train, valid), found, strict=True)]
        params = _learn(framewise, pairs[0], pairs[1], again, 3e-3)
        prior = np.log(counts / counts.sum()).astype(np.float32)
    names = [each.name for part in parts for each in part]
    aligned = [owners(params, each, prior) for each in every]
    return [
        (name, score, timed(owner, each.phones))
        for name, each, (owner, score) in zip(names, every, aligned, strict=True)
    ]


def _classes(owner: Int[np.ndarray, " steps"], heard: Heard) -> Int[np.ndarray, " steps"]:
    return np.where(owner < 0, 0, heard.labels[owner]).astype(np.int32)


def timed(owner: Int[np.ndarray, " steps"], spoken: Sequence[Phone]) -> list[Timed]:
    """The phones and pauses of an alignment, with their durations."""
    cuts = np.flatnonzero(np.diff(owner)) + 1
    return [
        Timed(Phone(PAUSE) if owner[start] < 0 else spoken[owner[start]], int(end - start))
        for start, end in zip([0, *cuts], [*cuts, len(owner)], strict=True)
    ]
