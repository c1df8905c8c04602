"""The closed loop: digits that are synthesised, and heard by the recogniser of speech_recognition.

The recogniser is another experiment, so it is asked by its command.
"""

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jiwer
import numpy as np
import soundfile
from jaxtyping import Float

from experiments.datasets.asterisk import RATE, Prompt
from experiments.datasets.files import DataError
from experiments.speech_synthesis.synthesis import say
from experiments.speech_synthesis.task import Saved

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

GAP = RATE // 5
"""Samples between two recordings: 0.2 s."""

LENGTHS = (3, 7)
"""The fewest and the most digits of a string."""


def strings(count: int, seed: int) -> list[str]:
    """The ten digits, each by itself, and ``count`` random strings of `LENGTHS` digits, in figures."""
    random = np.random.default_rng(seed)
    lengths = random.integers(LENGTHS[0], LENGTHS[1] + 1, count)
    return [*"0123456789", *("".join(map(str, random.integers(0, 10, length))) for length in lengths)]


def words(digits: str) -> str:
    """A string of digits in words, with a comma, which is a pause, after each."""
    return ", ".join(DIGITS[int(digit)] for digit in digits)


def write(
    speak: Callable[[str], Float[np.ndarray, " time"]], said: Sequence[str], folder: Path
) -> list[Path]:
    """Write the sounds of strings of digits; returns their files, `<number>-<digits>.wav`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:03}-{digits}.wav" for number, digits in enumerate(said)]
    for file, digits in zip(files, said, strict=True):
        soundfile.write(file, speak(digits), RATE)
    return files


def synthesised(saved: Saved) -> Callable[[str], Float[np.ndarray, " time"]]:
    """How a model says strings of digits."""
    return lambda digits: say(saved, words(digits))


def recorded(prompts: Iterable[Prompt]) -> Callable[[str], Float[np.ndarray, " time"]]:
    """How the speaker says them: recordings of the single digits, one after the other."""
    own = {prompt.name: np.pad(prompt.samples, GAP // 2) for prompt in prompts}
    return lambda digits: np.concatenate([own[f"digits_{digit}"] for digit in digits])


def heard(files: Sequence[Path], model: str | None = None) -> list[str]:
    """The digits that the recogniser hears in sound files, in figures.

    Args:
      files: the sounds.
      model: the label of a kept model of speech_recognition; by default its own default.

    Raises:
      DataError: there is no such recogniser, or it refuses a file.
    """
    command = [sys.executable, "-m", "experiments", "speech_recognition", "recognise"]
    command += ["--model", model] if model else []
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"the recogniser failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return parsed(done.stdout, len(files))


def parsed(text: str, count: int) -> list[str]:
    """The digits in the lines of the recogniser: file, tab, digits or a hyphen, tab, words.

    Raises:
      DataError: there are not ``count`` such lines.
    """
    lines = [line.split("\t") for line in text.splitlines() if line.count("\t") == 2]
    if len(lines) != count:
        raise DataError(f"the recogniser answered {len(lines)} of {count} files.")
    return ["" if digits == "-" else digits for _, digits, _ in lines]


def error(said: Sequence[str], found: Sequence[str]) -> float:
    """Wrong, missing and additional digits, by the number of those that were said."""
    rate: float = jiwer.wer([" ".join(each) for each in said], [" ".join(each) for each in found])
    return rate
