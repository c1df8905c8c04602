"""The subcommand caption: what is to be seen in a user's own pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from experiments.common import models
from experiments.common.flags import Count
from experiments.datasets.captioned import read_picture
from experiments.datasets.files import DataError
from experiments.image_captioning import pictures
from experiments.image_captioning.data import middle, side_of
from experiments.image_captioning.task import caption, load_model
from lstmjax.training import parallel

KEPT = "flickr1k-attention"
"""Label of the model that is used by default."""


def write_captions(arguments: Sequence[str]) -> None:
    """``caption FILE...``: captions of picture files."""

    def write(
        source: models.Chosen,
        files: Annotated[tuple[Path, ...], tyro.conf.Positional],
        beams: Count = 3,
        out: Path | None = None,
    ) -> None:
        """Write, for each file, its name and a caption.

        Files that cannot be read are told at the end; the others are described all the same.

        Args:
            source: by default the kept model for photographs.
            files: JPEG, PNG or WebP of any size, mode and orientation; of an animation, the first frame.
            beams: beam size; 1 for greedy decoding.
            out: a folder for pictures of the attention, NAME-attention.png of each file.
        """
        if not files:
            raise DataError("give at least one picture file.")
        saved = load_model(source.folder("image_captioning", KEPT))
        if saved.architecture.features:
            raise DataError("this model describes precomputed features, not pictures: give another --model.")
        if out is not None and not saved.architecture.attends:
            raise DataError("this model has no attention to draw: leave out --out.")
        parallel.keep_memory()
        broken = []
        for file in files:
            try:
                picture = read_picture(file, side_of(saved.config))
            except DataError as error:
                broken.append(str(error))
                continue
            (words,) = caption(saved, picture[None], beams)
            print(f"{file}\t{' '.join(words)}", flush=True)
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                weights = pictures.attention_of(saved, picture, words)
                seen = middle(picture[None], saved.config.crop)[0]
                pictures.draw_attention(seen, words, weights, out / f"{file.stem}-attention.png")
        if broken:
            raise DataError("; ".join(broken))

    tyro.cli(write, prog="python -m experiments image_captioning caption", args=arguments)


COMMANDS = {"caption": write_captions}
