"""Generated pieces, as audio, MIDI and plots."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.polyphonic_music import rendering
from experiments.polyphonic_music.config import Config
from experiments.polyphonic_music.model import generate
from lstmjax.nnx import Functional
from lstmjax.types import Params

FRAME_QUARTERS = {"chorales": 0.5, "jsb": 1.0, "nottingham": 0.5, "muse": 0.5, "piano": 0.5}
"""Length of a frame of each data set, in quarter notes."""


def write_samples(
    config: Config, model: Functional, params: Params, test: Sequence[np.ndarray], folder: Path
) -> None:
    """Write generated pieces as MIDI and WAV, and plot them beside pieces of the test set."""
    key = jax.random.key(config.train.seed)
    rolls = generate(config, model, params, key, config.samples, config.sample_frames)
    quarters = FRAME_QUARTERS[config.dataset]
    seconds = quarters * 60 / TEMPO
    panels = {}
    for number, roll in enumerate(rolls, 1):
        path = folder / f"sample-{number}"
        rendering.write_midi(roll, path.with_suffix(".mid"), frame_seconds=seconds, quarter_length=quarters)
        rendering.write_wav(roll, path.with_suffix(".wav"), frame_seconds=seconds)
        if number <= len(test):
            panels[f"{config.dataset}, test {number}"] = test[number - 1][: config.sample_frames]
        panels[f"generated {number}"] = roll
    rendering.write_picture(panels, folder / "piano_rolls.png", frame_seconds=seconds)


TEMPO = 80
"""Tempo of the generated pieces, in quarter notes per minute."""
