"""From text to sound with a trained model."""

import numpy as np
from jaxtyping import Float

from experiments.speech_synthesis import task, vocoder
from experiments.speech_synthesis.alignment import Phrase
from experiments.speech_synthesis.data import Statistics
from experiments.speech_synthesis.linguistics import describe
from experiments.speech_synthesis.task import Saved
from experiments.speech_synthesis.text import PAUSE, Phone, phones
from experiments.speech_synthesis.vocoder import Speech

SHORTEST = 2
"""Steps that every phone has at least."""

PAUSES = {",": 10, ".": 15, "?": 15}
"""Steps of the half of a pause at a punctuation mark."""

MOST = 2.0
"""The most that `livelier` makes of the deviation of a coefficient."""


def phrases_of(text: str) -> list[Phrase]:
    """The phrases of a text, cut at punctuation marks, with the durations of their pauses only.

    Raises:
      DataError: phonemizer is not installed, or there is nothing to say.
    """
    parts: list[list[Phone]] = []
    for phone in phones(text):
        if phone.mark or not parts:
            parts.append([])
        parts[-1].append(phone)
    ends = [part[0].mark for part in parts[1:]] + ["?" if text.rstrip().endswith("?") else "."]
    starts = [".", *ends[:-1]]
    pause = Phone(PAUSE)
    return [
        Phrase((pause, *part, pause), (PAUSES[start], *[0] * len(part), PAUSES[end]), 0, end)
        for part, start, end in zip(parts, starts, ends, strict=True)
    ]


def timed(saved: Saved, phrase: Phrase, rate: float = 1.0) -> Phrase:
    """A phrase with durations for its phones, divided by ``rate``."""
    found = task.durations(saved, describe(phrase.phones, phrase.end)) / rate
    inner = np.maximum(np.round(found[1:-1]), SHORTEST).astype(int).tolist()
    return phrase._replace(steps=(phrase.steps[0], *inner, phrase.steps[-1]))


def livelier(speech: Speech, statistics: Statistics) -> Speech:
    """Speech whose mel-cepstral coefficients vary within the phrase as much as those of natural speech.

    What is predicted is an average, and varies less, which sounds muffled. The energy stays as it is.

    Source: Silén et al. 2012 (Interspeech), "Ways to implement global variance in statistical speech
    synthesis".
    """
    cepstrum = speech.mel_cepstrum.copy()
    mean, deviation = cepstrum.mean(axis=0), cepstrum.std(axis=0)
    natural = np.array(statistics.spread[: cepstrum.shape[1]])
    factor = np.clip(natural / np.maximum(deviation, 1e-3), 1.0, MOST)
    factor[0] = 1.0
    return speech._replace(mel_cepstrum=(mean + factor * (cepstrum - mean)).astype(np.float32))


def say(saved: Saved, text: str, rate: float = 1.0) -> Float[np.ndarray, " time"]:
    """The sound of a text, float32 in [-1, 1], at 16 kHz; ``rate`` 2 is twice as fast.

    Raises:
      DataError: phonemizer or the vocoder is not installed, or there is nothing to say.
    """
    spoken = []
    for phrase in (timed(saved, each, rate) for each in phrases_of(text)):
        speech = task.speak(saved, describe(phrase.phones, phrase.end), phrase.steps)
        spoken.append(livelier(speech, saved.statistics))
    joined = Speech(*(np.concatenate(values) for values in zip(*spoken, strict=True)))
    return vocoder.synthesise(joined)
