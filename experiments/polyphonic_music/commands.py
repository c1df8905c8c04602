"""The subcommand: generate."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments.common import models
from experiments.common.flags import Count, NotNegative, Seed
from experiments.polyphonic_music.config import Config
from experiments.polyphonic_music.report import write_samples
from experiments.polyphonic_music.task import make_model


def generate(arguments: Sequence[str]) -> None:
    """``generate``: sample pieces from a saved model."""

    def write(
        source: models.Chosen,
        out: Path = Path("pieces"),
        pieces: Count = 3,
        frames: Count = 128,
        temperature: NotNegative = 0.8,
        seed: Seed = 1,
    ) -> None:
        """Write generated pieces as MIDI and WAV, and plot them.

        Args:
            source: the model; by default the kept one of chorales.
            out: the folder to write to.
            pieces: number of pieces.
            frames: length of each; a frame of the chorales is an eighth note.
            temperature: 1 samples from the model's distribution, lower values favour likely notes.
            seed: random seed.
        """
        folder = source.folder("polyphonic_music", default="chorales-lstm-nade")
        config = models.config_of(folder, Config)
        config = dataclasses.replace(
            config,
            samples=pieces,
            sample_frames=frames,
            temperature=temperature,
            train=dataclasses.replace(config.train, seed=seed),
        )
        model = make_model(config)
        out.mkdir(parents=True, exist_ok=True)
        write_samples(config, model, models.load_params(folder, model.init), (), out)
        print(out)

    tyro.cli(write, prog="python -m experiments polyphonic_music generate", args=arguments)


COMMANDS = {"generate": generate}
