"""Sounds of any rate and number of channels: files are read, or refused in one line."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float
from scipy import signal

from experiments.datasets.files import DataError, read_bytes, reading
from experiments.datasets.spoken_digits import RATE

SILENCE = 1e-3
"""A sound without any sample above, 60 dB below the loudest possible, is silent."""

CLIPPED = 1e-3
"""A sound with a larger share of samples at full scale is clipped."""

LONGEST = 600.0
"""Seconds of the longest sound."""

RATES = (1000, 400_000)
"""The lowest and the highest number of samples in a second."""

_LARGEST = 256 << 20  # bytes of a file
_SAMPLES = 1 << 26  # of all channels


class Sound(NamedTuple):
    """A sound that was read."""

    samples: np.ndarray
    """float32 [time], at `RATE`."""
    remarks: tuple[str, ...]
    """What may spoil the recognition."""


def read(path: Path) -> Sound:
    """Read a sound file, of any format that libsndfile knows: WAV, FLAC, Ogg, ...

    Raises:
      DataError: the file cannot be read, or has no sound, values that are no numbers, or too much sound.
    """
    content = read_bytes(path, _LARGEST)
    with reading(path, soundfile.SoundFileError), soundfile.SoundFile(io.BytesIO(content)) as file:
        rate, seconds = file.samplerate, len(file) / file.samplerate
        if not RATES[0] <= rate <= RATES[1]:
            raise DataError(f"{path} has {rate} samples in a second, not from {RATES[0]} to {RATES[1]}.")
        if seconds > LONGEST or len(file) * file.channels > _SAMPLES:
            raise DataError(f"{path} has {seconds:.0f} s of sound: cut it to at most {LONGEST:.0f} s.")
        samples = file.read(dtype="float32", always_2d=True)
    if not samples.size:
        raise DataError(f"{path} has no samples: record it again.")
    if not np.isfinite(samples).all():
        raise DataError(f"{path} has samples that are no numbers: write it again from its source.")
    remarks = []
    if np.mean(np.abs(samples) > 0.999) > CLIPPED:
        remarks.append("clipped: a quieter recording is recognised better")
    if rate < RATE:
        remarks.append(f"{rate} Hz: what is above {rate / 2:.0f} Hz is missing")
    single = at_rate(samples, rate)
    if is_silent(single):
        remarks.append("silent: nothing is louder than -60 dB")
    return Sound(single, tuple(remarks))


def at_rate(samples: np.ndarray, rate: int) -> Float[np.ndarray, " time"]:
    """The mean of the channels of a sound ``[time]`` or ``[time, channels]``, at `RATE`, float32."""
    samples = np.asarray(samples, np.float32)
    samples = samples if samples.ndim == 1 else samples.mean(axis=1)
    if rate == RATE or not len(samples):
        return samples
    divisor = np.gcd(rate, RATE)
    resampled: np.ndarray = signal.resample_poly(samples, RATE // divisor, rate // divisor)
    return resampled.astype(np.float32)


def is_silent(samples: Float[np.ndarray, " time"]) -> bool:
    """Whether nothing can be heard."""
    return bool(np.abs(samples).max(initial=0) < SILENCE)
