"""From power spectra to what the networks read: log-mel energies, normalized, and varied in training."""

import functools

import numpy as np
from jaxtyping import Float

from experiments.datasets.audio import FLOOR, mel_filters
from experiments.datasets.spoken_digits import RATE

POINTS = 256
"""Of the Fourier transform of a frame of 25 ms."""

WARPS = np.geomspace(1 / 1.15, 1.15, 12)
"""Factors of vocal tract length."""

TEMPO = (0.8, 1.25)
"""Range of the factor of the speaking rate."""

NOISE = (10.0, 50.0)
"""Range of the ratio of the utterance's mean power to that of the noise, in decibels."""

SLOPE = 1.5
"""Largest power of the frequency by which the power of the noise falls."""

ACTIVE = 35.0
"""Decibels below the loudest frame to which a frame counts as speech."""

RANGE = 40.0
"""Decibels below the loudest band to which energies are told apart: below it is the noise of a room."""

EQUALIZER = 5.0
"""Decibels: standard deviation of the slopes and curves that a microphone may add to the spectrum."""

KINDS = 2
"""Numbers of each band of a frame: the energy, and its change."""

BAND_MASKS, BAND_MASK = 2, 4
"""SpecAugment: number of masks, and the most bands of each."""

TIME_MASKS, TIME_MASK = 1, 0.1
"""SpecAugment: number of masks, and the largest share of the frames of each."""

NATS = np.log(10) / 10
"""A decibel in nats of power."""

Spectra = Float[np.ndarray, "frames frequencies"]


def plain(spectra: Spectra, bands: int) -> Float[np.ndarray, "frames numbers"]:
    """The normalized log-mel energies, and then their changes, float32 ``[frames, 2 * bands]``."""
    return with_changes(normalized(spectra @ filters(bands)))


def varied(
    spectra: Spectra, bands: int, random: np.random.Generator, longest: int
) -> Float[np.ndarray, "frames2 numbers"]:
    """The same of the utterance as it might have sounded.

    At random: the tempo (linear interpolation between frames), noise of a random level and slope of spectrum,
    the length of the vocal tract (Jaitly and Hinton 2013), the microphone, and masks of some bands and frames
    (SpecAugment, Park et al. 2019, arXiv:1904.08779).

    Args:
      spectra: the power spectra of its frames.
      bands: the number of bands.
      random: what is random.
      longest: the most frames of the result.
    """
    spectra = _noisy(_paced(spectra, random, longest), random)
    energies = spectra @ filters(bands, float(random.choice(WARPS)))
    values = with_changes(normalized(energies * _equalizer(bands, random)))
    for _ in range(BAND_MASKS):
        values[:, _span(bands, BAND_MASK, random)] = 0
    for _ in range(TIME_MASKS):
        values[_span(len(values), int(TIME_MASK * len(values)), random)] = 0
    return values


@functools.cache
def filters(bands: int, warp: float = 1.0) -> Float[np.ndarray, "frequencies bands"]:
    """The weights of the frequencies in each band, float32."""
    return mel_filters(RATE, POINTS, bands, warp).T.astype(np.float32)


def normalized(energies: Float[np.ndarray, "frames bands"]) -> Float[np.ndarray, "frames bands"]:
    """Logarithms less the mean of each band, by the deviation of all, of the frames that have speech.

    Frames of silence do not count, so that it does not matter how much there is of it.
    """
    logs = np.log(np.maximum(energies, FLOOR))
    loudness = logs.max(axis=1)
    logs = np.maximum(logs, loudness.max() - RANGE * NATS)
    spoken = logs[loudness > loudness.max() - ACTIVE * NATS]
    mean = spoken.mean(axis=0)
    deviation = np.sqrt(np.mean((spoken - mean) ** 2) + 0.1)
    return ((logs - mean) / deviation).astype(np.float32)


def with_changes(values: Float[np.ndarray, "frames bands"]) -> Float[np.ndarray, "frames numbers"]:
    """The values of each frame, and then their slopes over five frames, in units of a third of a frame."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    changes = (2 * (padded[4:] - padded[:-4]) + padded[3:-1] - padded[1:-3]) / 3
    return np.concatenate([values, changes], axis=1)


def _equalizer(bands: int, random: np.random.Generator) -> Float[np.ndarray, " bands"]:
    """Factors of the energies of bands: a random slope and curves of the spectrum, float32."""
    angles = np.pi * (np.arange(bands) + 0.5) / bands
    decibels = sum(EQUALIZER * random.normal() * np.cos(order * angles) for order in (1, 2, 3))
    return np.exp(NATS * decibels).astype(np.float32)


def _paced(spectra: Spectra, random: np.random.Generator, longest: int) -> Spectra:
    """The utterance at another tempo."""
    frames = max(min(round(len(spectra) / random.uniform(*TEMPO)), longest), 1)
    places = np.linspace(0, len(spectra) - 1, frames, dtype=np.float32)
    before = places.astype(int)
    after, share = np.minimum(before + 1, len(spectra) - 1), (places - before)[:, None]
    return spectra[before] * (1 - share) + spectra[after] * share


def _noisy(spectra: Spectra, random: np.random.Generator) -> Spectra:
    """The utterance with noise, whose power falls with a random power of the frequency."""
    shape = np.linspace(0.02, 1, spectra.shape[1], dtype=np.float32) ** np.float32(-random.uniform(0, SLOPE))
    level = spectra.mean() * 10 ** (-random.uniform(*NOISE) / 10) / shape.mean()
    return spectra + np.float32(level) * shape * random.standard_exponential(spectra.shape, np.float32)


def _span(length: int, widest: int, random: np.random.Generator) -> slice:
    """A random span."""
    width = random.integers(0, min(widest, length) + 1)
    start = random.integers(0, length - width + 1)
    return slice(start, start + width)
