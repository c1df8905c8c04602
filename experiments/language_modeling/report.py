"""Further output of a run: generated text, and plots of units."""

import itertools

import jax
import numpy as np
from jaxtyping import Int

from experiments.common.text.vocabulary import Vocabulary
from experiments.language_modeling import unit_pictures
from experiments.language_modeling.config import Config
from experiments.language_modeling.data import line_end, written
from experiments.language_modeling.model import stream, unit_outputs
from lstmjax.nnx import Functional
from lstmjax.training.record import Run
from lstmjax.types import Params


def write_samples(
    config: Config, model: Functional, params: Params, vocabulary: Vocabulary, run: Run
) -> None:
    """Write generated texts, which begin after the end of a line, as ``sample-N.txt``."""
    prompt = vocabulary.encode([line_end(vocabulary)]).tolist()
    for number in range(1, config.samples + 1):
        key = jax.random.fold_in(jax.random.key(config.train.seed), number)
        tokens = stream(model, params, prompt, key, config.temperature, config.top_p)
        text = "".join(written(vocabulary, token) for token in itertools.islice(tokens, config.sample_tokens))
        (run.path / f"sample-{number}.txt").write_text(f"{text.strip()}\n", "utf-8")


def write_units(
    model: Functional, params: Params, vocabulary: Vocabulary, tokens: Int[np.ndarray, " time"], run: Run
) -> None:
    """Plot the units of the network that track properties of the given text."""
    units = unit_outputs(model, params, tokens)
    text = vocabulary.decode(tokens)
    found = unit_pictures.find(units, text)
    unit_pictures.draw(found[:4], units, text, run.path / "units.png")


PICTURE_TOKENS = 20_000
"""Number of tokens of the validation set in which the units are searched."""
