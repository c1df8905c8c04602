"""How far synthesised speech is from what was spoken, with the durations that were spoken."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from experiments.speech_synthesis import task
from experiments.speech_synthesis.data import BUNDLE, Spoken
from experiments.speech_synthesis.linguistics import describe
from experiments.speech_synthesis.task import Saved
from experiments.speech_synthesis.vocoder import Speech

STEP_MS = 10
"""Milliseconds of a step."""


def synthesised(saved: Saved, phrases: Sequence[Spoken]) -> list[Speech]:
    """The parameters that a model gives phrases, with the durations that were spoken."""
    return [
        task.speak(saved, describe(each.phrase.phones, each.phrase.end), each.phrase.steps)
        for each in phrases
    ]


def inside(phrase: Spoken) -> slice:
    """The frames of a phrase without the pauses at its ends."""
    steps = phrase.phrase.steps
    return slice(BUNDLE * steps[0], BUNDLE * (sum(steps) - steps[-1]))


def distances(phrases: Sequence[Spoken], predicted: Sequence[Speech]) -> dict[str, float]:
    """Distances between speech and what was predicted for it, over the frames of all phones but pauses.

    ``mcd_db`` is the mel-cepstral distortion, the mean over frames of
    :math:`(10 / \\ln 10) \\sqrt{2 \\sum_d (c_d - \\hat c_d)^2}`, without the energy (Kubichek 1993);
    ``f0_rmse_hz`` the root mean squared error of F0, and ``f0_correlation``, over frames with voice in both;
    ``vuv_error`` the share of frames with voice in only one; ``bap_db`` the root mean squared error of the
    band aperiodicity, over frames with voice in both.
    """
    spoken = _joined([each.speech for each in phrases], phrases)
    given = _joined(predicted, phrases)
    both = spoken.voiced & given.voiced
    squares = ((spoken.mel_cepstrum - given.mel_cepstrum)[:, 1:].astype(np.float64) ** 2).sum(axis=1)
    f0 = [np.exp(each.log_f0[both].astype(np.float64)) for each in (spoken, given)]
    bands = (spoken.aperiodicity - given.aperiodicity)[both].astype(np.float64)
    return {
        "mcd_db": float(10 / np.log(10) * np.sqrt(2 * squares).mean()),
        "f0_rmse_hz": _rms(f0[0] - f0[1]),
        "f0_correlation": float(np.corrcoef(*f0)[0, 1]),
        "vuv_error": float((spoken.voiced != given.voiced).mean()),
        "bap_db": _rms(bands),
        "frames": float(len(squares)),
    }


def duration_errors(saved: Saved, phrases: Sequence[Spoken]) -> dict[str, float]:
    """The root mean squared error of the durations of phones but pauses, in ms, and the correlation."""
    spoken, given = [], []
    for each in phrases:
        found = task.durations(saved, describe(each.phrase.phones, each.phrase.end))
        spoken.append(np.array(each.phrase.steps[1:-1], np.float64))
        given.append(found[1:-1])
    one, other = np.concatenate(spoken), np.concatenate(given)
    return {
        "duration_rmse_ms": STEP_MS * _rms(one - other),
        "duration_correlation": float(np.corrcoef(one, other)[0, 1]),
        "phones": float(len(one)),
    }


def evaluate(saved: Saved, phrases: Sequence[Spoken]) -> dict[str, float]:
    """`distances` and `duration_errors` of a model."""
    return distances(phrases, synthesised(saved, phrases)) | duration_errors(saved, phrases)


def _joined(speech: Sequence[Speech], phrases: Sequence[Spoken]) -> Speech:
    cut = [
        Speech(*(values[inside(one)] for values in each)) for each, one in zip(speech, phrases, strict=True)
    ]
    return Speech(*(np.concatenate(values) for values in zip(*cut, strict=True)))


def _rms(errors: Float[np.ndarray, "..."]) -> float:
    return float(np.sqrt((errors**2).mean())) if errors.size else float("nan")
