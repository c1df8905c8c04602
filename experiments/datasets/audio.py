"""Sound as a sequence of vectors: energies in bands that lie as those of the ear do."""

import io

import numpy as np
import soundfile
from jaxtyping import Float
from scipy import signal

FLOOR = 1e-8
"""Energies below are taken for it: that of the rounding to 16 bits."""

WARPED = 0.6
"""The share of the frequencies, from 0, that a warp multiplies by its whole factor (4.8 of 8 kHz)."""

LONGEST = 600.0
"""The most seconds of a recording."""


def samples(content: bytes, rate: int) -> Float[np.ndarray, " time"]:
    """The sound of a file, such as FLAC or WAV, float32 in [-1, 1]; to be called within `files.reading`.

    Raises:
      ValueError: it is not one channel at ``rate``, or empty or longer than `LONGEST`, or not in [-1, 1].
    """
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.samplerate != rate or file.channels != 1:
                raise ValueError(f"it is not mono at {rate} Hz")
            if not 1 <= file.frames <= LONGEST * rate:
                raise ValueError(f"it has {file.frames} samples, not up to {LONGEST:g} s")
            found = file.read(dtype="float32")
    except soundfile.SoundFileError as error:
        raise ValueError(f"it is no sound: {error}") from error
    if not (np.abs(found) <= 1).all():
        raise ValueError("it has samples that are not from -1 to 1")
    return np.asarray(found)


def log_mel(
    samples: Float[np.ndarray, " time"],
    rate: int,
    bands: int = 26,
    window: float = 0.025,
    step: float = 0.010,
) -> Float[np.ndarray, "frames bands"]:
    """The logarithm of the energy in each band of each frame, float32.

    Args:
      samples: the sound, in [-1, 1].
      rate: samples in a second.
      bands: triangular filters between 0 and rate / 2, equally wide on the mel scale.
      window: seconds of a frame, under a Hann window.
      step: seconds from one frame to the next.

    Raises:
      ValueError: the sound is shorter than a frame.

    Source: Davis and Mermelstein 1980 (IEEE Trans. Acoustics, Speech, and Signal Processing 28(4)).
    """
    spectra = power_spectra(samples, rate, window, step)
    energies = spectra @ mel_filters(rate, 2 * (spectra.shape[1] - 1), bands).T
    return np.log(np.maximum(energies, FLOOR)).astype(np.float32)


def power_spectra(
    samples: Float[np.ndarray, " time"], rate: int, window: float = 0.025, step: float = 0.010
) -> Float[np.ndarray, "frames frequencies"]:
    """The squared magnitude of the Fourier transform of each frame, of as many points as a power of two.

    Raises:
      ValueError: the sound is shorter than a frame.
    """
    size = round(window * rate)
    if len(samples) < size:
        raise ValueError(f"power_spectra: {len(samples)} samples, where a frame has {size}.")
    points = 1 << (size - 1).bit_length()
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: round(step * rate)]
    return np.abs(np.fft.rfft(frames * signal.get_window("hann", size), points)) ** 2


def mel_filters(
    rate: int, points: int, bands: int, warp: float = 1.0
) -> Float[np.ndarray, "bands frequencies"]:
    """The filters' weights of each frequency of a Fourier transform of so many points, 1 at their centres.

    With ``warp``, frequencies are multiplied by it, as by a vocal tract that is shorter by that factor; the
    uppermost are squeezed or stretched so that half the rate stays where it is (Jaitly and Hinton 2013,
    ICML workshop on deep learning for audio, speech and language processing).
    """
    edges = _hertz(np.linspace(0, _mel(rate / 2), bands + 2))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    frequencies = np.fft.rfftfreq(points, 1 / rate)
    bend = WARPED * rate / 2 * min(warp, 1)
    frequencies = np.interp(frequencies, (0, bend / warp, rate / 2), (0, bend, rate / 2))
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling))


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)
