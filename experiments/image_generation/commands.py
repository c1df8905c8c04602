"""The subcommand generate: digits that a trained network draws."""

from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments.common import models
from experiments.common.flags import Count, Seed
from experiments.image_generation import pictures
from experiments.image_generation.task import load_model


def generate(arguments: Sequence[str]) -> None:
    """``generate``: draw digits, as an animation and step by step."""

    def write(source: models.Chosen, count: Count = 25, seed: Seed = 1, out: Path = Path("drawn")) -> None:
        """Draw digits that nobody wrote: ``drawing.gif`` has all of them, ``drawing.png`` the first in steps.

        Args:
            source: the network; by default the kept one with attention.
            count: how many.
            seed: random seed of the digits.
            out: the folder to write to.
        """
        saved = load_model(source.folder("image_generation", default="mnist-attention"))
        drawn = pictures.generate(saved, count, seed)
        out.mkdir(parents=True, exist_ok=True)
        pictures.animate(drawn, saved.config, out / "drawing.gif")
        pictures.draw_steps(drawn, saved.config, out / "drawing.png")
        print(out)

    tyro.cli(write, prog="python -m experiments image_generation generate", args=arguments)


COMMANDS = {"generate": generate}
"""The subcommands `python -m experiments image_generation NAME`."""
