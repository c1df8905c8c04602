"""The subcommands: say a text, have synthesised digits recognised, and align the prompts anew."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import soundfile
import tyro

from experiments import datasets
from experiments.common import models
from experiments.datasets.asterisk import RATE
from experiments.speech_synthesis import alignment
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


COMMANDS = {"say": say, "align": align}
"""The subcommands `python -m experiments speech_synthesis NAME`."""
