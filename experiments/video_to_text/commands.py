"""The subcommand describe: what happens in a user's own videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from experiments.common import models
from experiments.common.flags import Count
from experiments.datasets.files import DataError
from experiments.video_to_text.describing import Described, describe
from experiments.video_to_text.pictures import write_animation
from experiments.video_to_text.task import load_model
from experiments.video_to_text.video_files import read_frames, sampled

KEPT = "digits1-s2vt"
"""Label of the model that is used by default."""


def describe_files(arguments: Sequence[str]) -> None:
    """``describe FILE...``: a sentence for each video."""

    def write(
        source: models.Chosen,
        files: Annotated[tuple[Path, ...], tyro.conf.Positional],
        beams: Count = 1,
        out: Path | None = None,
    ) -> None:
        """Write, for each file, its name and the sentence for it.

        The model knows what it was trained on: light digits on dark paper, a little less than a half of the
        picture wide. Files that cannot be read are told at the end; the others are described all the same.

        Args:
            source: by default the kept model for one moving digit.
            files: GIF, PNG, WebP, folders of pictures in order of their names, or, by ffmpeg, MP4.
            beams: hypotheses of beam search; 1 for greedy decoding.
            out: a GIF to write, with the videos as the model sees them, and the sentences underneath.
        """
        if not files:
            raise DataError("give at least one video.")
        saved = load_model(source.folder("video_to_text", KEPT))
        if saved.inputs:
            raise DataError("this model was trained on features of frames, and takes no files.")
        described, broken = [], []
        for file in files:
            try:
                frames = sampled(read_frames(file), saved.config.frames)
            except DataError as error:
                broken.append(str(error))
                continue
            (sentence,) = describe(saved, [frames], beams)
            described.append(Described(frames, sentence, ()))
            print(f"{file}\t{sentence}", flush=True)
        if out is not None and described:
            write_animation(described, out)
        if broken:
            raise DataError("; ".join(broken))

    tyro.cli(write, prog="python -m experiments video_to_text describe", args=arguments)


COMMANDS = {"describe": describe_files}
