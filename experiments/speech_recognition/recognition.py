"""From sounds to digits: decoding, error rates, and the transcript of any sound."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jiwer
import numpy as np
from jaxtyping import Float

from experiments.datasets.audio import power_spectra
from experiments.datasets.spoken_digits import RATE
from experiments.speech_recognition.data import LONGEST, WORDS, Batches
from experiments.speech_recognition.features import plain
from experiments.speech_recognition.model import END
from experiments.speech_recognition.sound import at_rate, is_silent
from experiments.speech_recognition.task import Saved
from lstmjax import decoding

BEAMS = 8
"""Hypotheses of beam search."""

Digits = tuple[int, ...]


@functools.partial(jax.jit, static_argnames=("model", "spells", "beams", "longest"))
def _decode(model, spells, beams, longest, params, values, lengths):  # type: ignore[no-untyped-def]
    """Classes ``[batch, n]`` and their number ``[batch]``."""
    module = model.bind(params)
    listened = module.listen(values, lengths)
    if not spells:
        logits = module.readout(listened.values)
        if beams == 1:
            return decoding.ctc_greedy(logits, listened.lengths)
        hypotheses = decoding.ctc_beam_search(logits, listened.lengths, beams, longest)
        return hypotheses.tokens[:, 0], hypotheses.lengths[:, 0]
    memory, state = module.begin(listened)

    def step(state, labels):  # type: ignore[no-untyped-def]
        state, (logits, _) = module.step(memory, state, labels)
        return state, logits

    if beams == 1:
        found = decoding.greedy(step, state, END, END, longest)
        return found.tokens, found.lengths
    hypotheses = decoding.beam_search(step, state, END, END, longest, beams)
    return hypotheses.tokens[:, 0], hypotheses.lengths[:, 0]


def decode(
    saved: Saved,
    values: Float[np.ndarray, "batch time features"],
    lengths: np.ndarray,
    beams: int = 1,
    longest: int = 2 * LONGEST,
) -> list[Digits]:
    """The digits of each row: the likeliest class of each step, or, with several beams, by beam search.

    Args:
      saved: the network.
      values: what it reads, see `features`.
      lengths: frames of each row.
      beams: hypotheses; 1 for greedy decoding.
      longest: the most digits that a decoder with attention, or beam search, finds.
    """
    spells = saved.config.model == "las"
    tokens, counts = _decode(saved.model, spells, beams, longest, saved.params, values, lengths)
    rows = zip(np.asarray(tokens).tolist(), np.asarray(counts).tolist(), strict=True)
    return [tuple(token - 1 for token in row[:count]) for row, count in rows]


class Errors(NamedTuple):
    """How the digits found differ from those said."""

    wer: float
    """Substitutions, deletions and insertions in the closest alignments, by the digits that were said."""
    substitutions: int
    deletions: int
    insertions: int
    string_error: float
    """The share of strings with any."""


def errors(said: Sequence[Digits], found: Sequence[Digits]) -> Errors:
    """The error rates of transcripts; something is said in each."""
    measured = jiwer.process_words(list(map(spoken, said)), list(map(spoken, found)))
    wrong = np.mean([one != other for one, other in zip(said, found, strict=True)])
    counts = measured.substitutions, measured.deletions, measured.insertions
    return Errors(float(measured.wer), *counts, float(wrong))


def spoken(digits: Sequence[int]) -> str:
    """Digits in words."""
    return " ".join(WORDS[digit] for digit in digits)


def error_rates(saved: Saved, batches: Batches, beams: int) -> Errors:
    """The error rates of a network on a split."""
    said, found = [], []
    for batch in batches.once():
        there = batch.lengths > 0
        rows = decode(saved, batch.values, batch.lengths, beams)
        found += [row for row, real in zip(rows, there, strict=True) if real]
        labels = zip(batch.labels[there].tolist(), batch.label_lengths[there].tolist(), strict=True)
        said += [tuple(label - 1 for label in row[:count]) for row, count in labels]
    return errors(said, found)


SHORTEST = round(0.025 * RATE)
"""Samples of a frame: shorter sounds have none."""


def transcribe(model: Saved, samples: np.ndarray, rate: int, beams: int = 1) -> str:
    """The digits of a sound in words, such as "three one four"; empty if nothing is heard.

    Args:
      model: as `load_model` returns it.
      samples: the sound, in [-1, 1], ``[time]`` or ``[time, channels]``.
      rate: samples in a second.
      beams: hypotheses; 1 for greedy decoding.
    """
    return spoken(listen(model, at_rate(samples, rate), beams))


def listen(model: Saved, samples: Float[np.ndarray, " time"], beams: int = 1) -> Digits:
    """The digits of a sound at `RATE`."""
    if len(samples) < SHORTEST or is_silent(samples):
        return ()
    values = plain(power_spectra(samples, RATE).astype(np.float32), model.config.bands)
    frames = max(64, 1 << (len(values) - 1).bit_length())  # few shapes are compiled
    padded = np.zeros((1, frames, values.shape[1]), np.float32)
    padded[0, : len(values)] = values
    return decode(model, padded, np.array([len(values)], np.int32), beams, longest=frames // 8)[0]
