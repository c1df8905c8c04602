r"""Image generation: DRAW, which draws a digit glimpse by glimpse, with and without attention.

    python -m experiments image_generation                       with windows that the network moves
    python -m experiments image_generation --no-attention        the whole image at once, 10 times
    python -m experiments image_generation --glimpses 64         the paper's setting
    python -m experiments image_generation generate              digits that nobody wrote, as an animation

Paper. Gregor, Danihelka, Graves, Rezende and Wierstra 2015 (arXiv:1502.04623).

Data. MNIST as binary images. ``--binarisation dynamic`` draws each pixel anew in every epoch, with its
brightness as the probability of ink; the validation and test images are drawn once and for all.
``static`` thresholds at a half. Neither is the fixed draw of Salakhutdinov and Murray 2008, which the paper
has: figures of the three are not of the same images.

Model. A variational autoencoder of two LSTMs: `model.py` has the equations, `lstmjax/attention/filterbank.py`
those of the windows.

Loss. The variational bound on the negative log-likelihood of an image, in nats: the cross entropy of the
pixels after the last glimpse, and the divergence of the posterior of each glimpse from the standard normal.
``test_bound_nats`` is its mean over the test images, with ``--importance`` samples of each;
``test_iwae_nats`` is the importance-weighted estimate of the negative log-likelihood from the same samples.

Recipe. Adam with a cosine schedule; the parameters with the lowest bound on the validation images are tested
once. Cost and figures: `experiments/results/image_generation`.
"""

import numpy as np

from experiments.common import models
from experiments.common.experiment import Experiment
from experiments.common.learning import evaluate, finish, learn
from experiments.common.recipes import training_config
from experiments.image_generation import pictures
from experiments.image_generation.commands import COMMANDS
from experiments.image_generation.config import Config, preset
from experiments.image_generation.data import ImageBatches, brightness, load
from experiments.image_generation.model import make_model
from experiments.image_generation.page import PAGE
from experiments.image_generation.task import make_task, make_test
from lstmjax.training.record import Run

SAMPLES = 25
"""Digits that a run draws."""


def run(config: Config, run: Run) -> None:
    """Train, test once, and write the network, pictures and the summary."""
    train, valid, test = (ImageBatches(brightness(config, part), config.batch_size) for part in load(config))
    task = make_task(config, train, valid)
    settings = training_config(config, train.steps_per_epoch)
    learned = learn(task, settings, run, curves={"bound_nats": "bound, nats", "kl_nats": "KL, nats"})

    figures = learned.figures | evaluate(task, learned.params, {"valid": valid.once()})
    figures |= evaluate(make_test(config, task), learned.params, {"test": test.once()})
    saved = models.Saved(config, make_model(config), learned.params)
    drawn = pictures.generate(saved, SAMPLES, seed=0)
    pictures.animate(drawn, config, run.path / "drawing.gif")
    pictures.draw_steps(drawn, config, run.path / "drawing.png")
    pictures.draw_neighbours(drawn, train.brightness / np.float32(255), run.path / "samples.png")
    images = next(test.once()).images[: pictures.ROWS]
    drawn = pictures.reconstruct(saved, images, seed=0)
    pictures.draw_reading(drawn, images, config, run.path / "reconstruction.png")
    finish(run, figures)


EXPERIMENT = Experiment(__doc__, Config, run, PAGE, preset, COMMANDS)
