"""Speech as parameters, and back: F0 by RAPT, spectral envelope and aperiodicity by WORLD.

Every 5 ms: 40 mel-cepstral coefficients of the envelope (warping 0.41), the logarithm of F0, which is
interpolated where there is no voice, whether there is voice, and the aperiodicity of the band above, in dB.

Sources: Morise, Yokomori and Ozawa 2016 (IEICE Trans. Information and Systems E99-D(7)); Talkin 1995 (in
Speech Coding and Synthesis); Tokuda et al. 1994 (ICSLP) for mel-generalized cepstra.
"""

import contextlib
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from experiments.datasets.arrays import check_arrays, read_arrays
from experiments.datasets.asterisk import RATE
from experiments.datasets.files import DataError, atomic_write, cache_folder

FRAME = 80
"""Samples from one frame to the next: 5 ms."""

COEFFICIENTS, WARPING, FFT = 40, 0.41, 1024

LOWEST, HIGHEST = 80.0, 500.0
"""Hertz that F0 is looked for in."""

FORMAT = 1
"""Number of the form of the cached analyses; a change of what is computed makes it another."""


class Speech(NamedTuple):
    """The parameters of speech, at every frame."""

    mel_cepstrum: Float[np.ndarray, "frames coefficients"]
    log_f0: Float[np.ndarray, " frames"]
    voiced: Bool[np.ndarray, " frames"]
    aperiodicity: Float[np.ndarray, "frames bands"]
    """In dB."""


def _libraries() -> tuple[Any, Any]:
    """pyworld and pysptk."""
    try:
        import pysptk  # noqa: PLC0415
        import pyworld  # noqa: PLC0415
    except ImportError as error:
        raise DataError(f"{error}: pip install .[speech] has the vocoder.") from error
    return pyworld, pysptk


def analyse(samples: Float[np.ndarray, " time"]) -> Speech:
    """The parameters of speech, of ``len(samples) // FRAME`` frames; frame t is centred at ``t * FRAME``.

    Raises:
      DataError: the vocoder is not installed.
    """
    pyworld, pysptk = _libraries()
    frames = len(samples) // FRAME
    scaled = np.ascontiguousarray(samples * 32768, np.float32)
    f0 = pysptk.rapt(scaled, RATE, FRAME, min=LOWEST, max=HIGHEST, otype="f0")
    f0 = np.pad(f0, (0, max(frames - len(f0), 0)))[:frames].astype(np.float64)
    times, wave = np.arange(frames) * FRAME / RATE, samples.astype(np.float64)
    envelope = pyworld.cheaptrick(wave, f0, times, RATE, fft_size=FFT)
    aperiodicity = pyworld.code_aperiodicity(pyworld.d4c(wave, f0, times, RATE, fft_size=FFT), RATE)
    cepstrum = pysptk.sp2mc(envelope, COEFFICIENTS - 1, WARPING)
    voiced = f0 > 0
    return Speech(
        cepstrum.astype(np.float32),
        _interpolated(f0, voiced).astype(np.float32),
        voiced,
        aperiodicity.astype(np.float32),
    )


def _interpolated(f0: np.ndarray, voiced: np.ndarray) -> np.ndarray:
    """The logarithm of F0, linear over time where there is no voice."""
    if not voiced.any():
        return np.full(len(f0), np.log(200.0))
    at = np.flatnonzero(voiced)
    return np.interp(np.arange(len(f0)), at, np.log(f0[at]))


def synthesise(speech: Speech) -> Float[np.ndarray, " time"]:
    """The sound of parameters, float32 in [-1, 1], at 16 kHz.

    Raises:
      DataError: the vocoder is not installed.
    """
    pyworld, pysptk = _libraries()
    f0 = np.where(speech.voiced, np.exp(speech.log_f0.astype(np.float64)), 0.0)
    coded = np.ascontiguousarray(np.minimum(speech.aperiodicity, 0), np.float64)
    coded[~speech.voiced] = 0.0
    cepstrum = np.ascontiguousarray(speech.mel_cepstrum, np.float64)
    envelope = np.ascontiguousarray(pysptk.mc2sp(cepstrum, WARPING, FFT))
    aperiodicity = pyworld.decode_aperiodicity(coded, RATE, FFT)
    wave = pyworld.synthesize(f0, envelope, aperiodicity, RATE, 1000 * FRAME / RATE)
    return np.clip(wave, -1, 1).astype(np.float32)


def cached(samples: Float[np.ndarray, " time"], folder: Path | None = None) -> Speech:
    """`analyse`, or what it gave before, from a file in ``folder``, by default one in the user's cache."""
    folder = folder or cache_folder() / "world"
    digest = hashlib.sha256(np.ascontiguousarray(samples, np.float32).tobytes()).hexdigest()
    path = folder / f"v{FORMAT}-{digest[:32]}.npz"
    with contextlib.suppress(DataError):
        stored = read_arrays(path)
        axes = {"mel_cepstrum": 2, "log_f0": 1, "voiced": 1, "aperiodicity": 2}
        check_arrays(stored, {name: ("f", count) for name, count in axes.items()}, str(path))
        if {len(stored[name]) for name in axes} == {len(samples) // FRAME}:
            return Speech(*(stored[name] for name in Speech._fields))
    speech = analyse(samples)
    with atomic_write(path) as file:
        np.savez(file, **speech._asdict())
    return speech
