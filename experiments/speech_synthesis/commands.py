"""The subcommands: say a text, have synthesised digits heard, and align the prompts anew."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import soundfile
import tyro

from experiments import datasets
from experiments.common import models
from experiments.datasets.asterisk import RATE
from experiments.speech_synthesis import alignment, report
from experiments.speech_synthesis.data import spoken
from experiments.speech_synthesis.synthesis import say as synthesise
from experiments.speech_synthesis.task import load_model
from lstmjax import training

DEFAULT = "asterisk-blstm"
"""The label of the kept model."""


def say(arguments: Sequence[str]) -> None:
    """``say TEXT``: write a text as sound."""

    def write(
        source: models.Chosen,
        text: Annotated[str, tyro.conf.Positional],
        out: Path = Path("said.wav"),
        rate: float = 1.0,
    ) -> None:
        """Write a WAV file, mono at 16 kHz, of a text in English.

        Args:
            source: by default the kept model.
            text: what is to be said; its punctuation makes pauses.
            out: the file to write.
            rate: how fast to speak; 2 is twice as fast as the model would.
        """
        if not rate > 0:
            raise training.ConfigError(f"rate must be positive, got {rate}.")
        saved = load_model(source.folder("speech_synthesis", DEFAULT))
        samples = synthesise(saved, text, rate)
        out.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(out, samples, RATE)
        print(f"{out}: {len(samples) / RATE:.2f} s")

    tyro.cli(write, prog="python -m experiments speech_synthesis say", args=arguments)


def align(arguments: Sequence[str]) -> None:
    """``align``: train the aligner, and write the alignment of all prompts."""

    def write(out: Path = alignment.FILE, data_dir: Path | None = None) -> None:
        """Write which phone is spoken when, of all prompts; print the least likely ones, which may be wrong.

        Args:
            out: the file to write.
            data_dir: folder of the data sets.
        """
        from experiments.speech_synthesis import aligner  # noqa: PLC0415

        found = aligner.align(datasets.load("asterisk-en", data_dir))
        alignment.write(out, [(name, timed) for name, _, timed in found])
        for name, score, _ in sorted(found, key=lambda each: each[1])[:20]:
            print(f"{score:6.2f}  {name}")
        print(out)

    tyro.cli(write, prog="python -m experiments speech_synthesis align", args=arguments)


def digits(arguments: Sequence[str]) -> None:
    """``digits``: synthesise digits, and have them heard by speech_recognition."""

    def write(
        source: models.Chosen,
        strings: int = 40,
        seed: int = 1,
        recogniser: str | None = None,
        out: Path = Path("digits"),
        recordings: bool = False,
        record: bool = False,
        data_dir: Path | None = None,
    ) -> None:
        """Print what is heard in synthesised digits, and the error.

        Args:
            source: by default the kept model.
            strings: number of random strings of 3 to 7 digits; the ten digits by themselves come before.
            seed: random seed of the strings.
            recogniser: the label of a kept model of speech_recognition; by default its own default.
            out: a folder for the sounds.
            recordings: have the speaker's own recordings of digits heard, for comparison.
            record: add the errors to the record of the kept model.
            data_dir: folder of the data sets, for recordings.
        """
        from experiments.speech_synthesis import hearing  # noqa: PLC0415

        folder = source.folder("speech_synthesis", DEFAULT)
        said = hearing.strings(strings, seed)
        if recordings:
            parts = datasets.load("asterisk-en", data_dir)
            speak = hearing.recorded(prompt for part in parts for prompt in part)
        else:
            speak = hearing.synthesised(load_model(folder))
        found = hearing.heard(hearing.write(speak, said, out), recogniser)
        for one, other in zip(said, found, strict=True):
            print(f"{one:<10} {other or '-':<10} {'' if one == other else 'wrong'}".rstrip())
        single, connected = slice(0, 10), slice(10, None)
        kind = "test_recorded" if recordings else "test"
        figures = {f"{kind}_digits_wer": hearing.error(said[single], found[single])}
        if strings:
            figures[f"{kind}_strings_wer"] = hearing.error(said[connected], found[connected])
        print("  ".join(f"{name} {100 * value:.1f} %" for name, value in figures.items()))
        if record:
            print(models.add_metrics(folder, "speech_synthesis", figures, tolerance=0.02))

    tyro.cli(write, prog="python -m experiments speech_synthesis digits", args=arguments)


def pictures(arguments: Sequence[str]) -> None:
    """``pictures``: spectrograms and sounds of phrases of the test split, by a trained model."""

    def write(source: models.Chosen, out: Path = Path("phrases"), data_dir: Path | None = None) -> None:
        """Write what a run leaves to look at and to listen to.

        Args:
            source: by default the kept model.
            out: the folder to write to.
            data_dir: folder of the data sets.
        """
        saved = load_model(source.folder("speech_synthesis", DEFAULT))
        timed = alignment.read()
        prompts = datasets.load(saved.config.dataset, data_dir).test
        out.mkdir(parents=True, exist_ok=True)
        report.write(saved, [each for prompt in prompts for each in spoken(prompt, timed)], out)
        print(out)

    tyro.cli(write, prog="python -m experiments speech_synthesis pictures", args=arguments)


COMMANDS = {"say": say, "digits": digits, "align": align, "pictures": pictures}
"""The subcommands `python -m experiments speech_synthesis NAME`."""
