"""The subcommand recognise: the digits in a user's own sound files."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from experiments.common import models
from experiments.datasets.files import DataError
from experiments.speech_recognition import sound
from experiments.speech_recognition.recognition import listen, spoken
from experiments.speech_recognition.task import load_model
from lstmjax import training

KEPT = "strings-blstm"
"""Label of the network that is used by default."""


def recognise(arguments: Sequence[str]) -> None:
    """``recognise FILE...``: the digits that are said in sound files."""

    def write(
        source: models.Chosen, files: Annotated[tuple[Path, ...], tyro.conf.Positional], beams: int = 1
    ) -> None:
        """Write, for each file, its name and the digits that are said, in figures and in words.

        What may spoil the recognition is told on standard error. Files that cannot be read are told at the
        end; the others are recognised all the same.

        Args:
            source: by default the kept network for strings of digits.
            files: WAV, FLAC or Ogg, of any rate and number of channels.
            beams: hypotheses of beam search; 1 for greedy decoding.
        """
        if beams < 1:
            raise training.ConfigError(f"beams must be at least 1, got {beams}.")
        if not files:
            raise DataError("give at least one sound file.")
        saved = load_model(source.folder("speech_recognition", KEPT))
        broken = []
        for file in files:
            try:
                samples, remarks = sound.read(file)
            except DataError as error:
                broken.append(str(error))
                continue
            for remark in remarks:
                print(f"{file}: {remark}", file=sys.stderr)
            digits = listen(saved, samples, beams)
            print(f"{file}\t{''.join(map(str, digits)) or '-'}\t{spoken(digits) or '(nothing)'}", flush=True)
        if broken:
            raise DataError("; ".join(broken))

    tyro.cli(write, prog="python -m experiments speech_recognition recognise", args=arguments)


COMMANDS = {"recognise": recognise}
