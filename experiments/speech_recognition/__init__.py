r"""Speech recognition: which digits are said?

    python -m experiments speech_recognition                             single digits, official split
    python -m experiments speech_recognition --dataset unseen-speaker    of speakers that were never heard
    python -m experiments speech_recognition --dataset strings           strings of one to seven digits
    python -m experiments speech_recognition --dataset strings --model las   by a decoder with attention
    python -m experiments speech_recognition recognise FILE...           in your own sound files

Papers. Graves, Mohamed and Hinton 2013 (arXiv:1303.5778) for deep bidirectional LSTMs with CTC; Chan et al.
2016 (arXiv:1508.01211) for listen, attend and spell, whose listener here also learns by CTC (Kim, Hori and
Watanabe 2017, arXiv:1609.06773).

Data. The Free Spoken Digit Dataset: six speakers, 8 kHz. ``digits``: its official split, in which all
speakers are in all parts. ``unseen-speaker``: six networks, each trained on five speakers and tested on all
500 recordings of the sixth. ``strings``: recordings of one speaker, joined with gaps of up to 0.3 s, 1,000
strings for the test from the recordings of the official test split.

Model. `model.py` has the equations: layers of bidirectional LSTMs over log-mel energies, normalized for each
utterance (`features.py`); a class for each digit, and a blank. The decoder with attention begins with the
layers of the kept network for strings.

Loss. Connectionist temporal classification, or the cross entropy of each digit given those before.
``test_accuracy`` is the share of single digits that are right, by the likeliest of the ten; ``test_wer`` the
word error rate of strings: substitutions, deletions and insertions by digits said.

Recipe. Adam with a cosine schedule; an exponential moving average of the parameters, tested once where it has
the lowest validation loss; tempo, vocal tract length, noise and masks varied at random. Cost and figures:
`experiments/results/speech_recognition`.
"""

import dataclasses

import jax
import numpy as np

from experiments.common import mapped, models
from experiments.common.experiment import Experiment
from experiments.common.learning import finish, learn
from experiments.common.recipes import training_config
from experiments.speech_recognition import pictures
from experiments.speech_recognition.commands import COMMANDS
from experiments.speech_recognition.config import Config, preset
from experiments.speech_recognition.data import SPEAKERS, heard, load, make_batches, make_utterances
from experiments.speech_recognition.model import make_model
from experiments.speech_recognition.page import PAGE
from experiments.speech_recognition.recognition import BEAMS, error_rates
from experiments.speech_recognition.task import (
    Evaluate,
    Saved,
    initial_params,
    make_architecture,
    make_task,
)
from lstmjax import training
from lstmjax.training.record import Run
from lstmjax.training.task import WithoutCarry


def run(config: Config, run: Run) -> None:
    """Train, test once, and write the first network, a picture and the summary."""
    train, valid, tested = (
        make_batches(config, make_utterances(config, part, name), evaluation=name != "train")
        for name, part in load(config)._asdict().items()
    )
    model = make_model(make_architecture(config))
    task = make_task(config, model, train, valid)
    settings = training_config(config, train.steps_per_epoch)
    optimizer = mapped.optimizer(training.adam(settings))
    curves = {"nll": "loss, nats a digit", "exact": "share of utterances that are right"}
    params = initial_params(config, task)
    learned = learn(task, settings, run, optimizer, params, curves=curves)
    models.save_first(learned.params, run.path)

    figures = learned.figures
    for part, batches in (("valid", valid), ("test", tested)):
        if (part, config.dataset) != ("test", "strings"):
            evaluate = Evaluate(config, model, heard(config, part))
            task = dataclasses.replace(task, evaluate=WithoutCarry(evaluate))
            figures |= _of_models(part, training.evaluate_each(task, learned.params, batches.once()))
    saved = Saved(config, model, jax.tree.map(lambda leaf: leaf[0], learned.params))
    if config.dataset == "strings":
        for name, beams in (("", 1), ("_beam", BEAMS)):
            errors = error_rates(saved, tested, beams)._asdict()
            figures |= {f"test_{error}{name}": float(value) for error, value in errors.items()}
    pictures.draw(saved, valid.utterances[0], run.path / "example.png")
    finish(run, figures)


def _of_models(part: str, found: dict[str, np.ndarray]) -> dict[str, float]:
    """Metrics of a split: of several networks the mean, the range, and that of each speaker left out."""
    named = {f"{part}_{name}": values for name, values in found.items()}
    if len(next(iter(named.values()))) == 1:
        return {name: float(values[0]) for name, values in named.items()}
    each = {
        f"{name}_{speaker}": float(value)
        for name, values in named.items()
        if name == "test_accuracy"
        for speaker, value in zip(SPEAKERS, values, strict=True)
    }
    return mapped.spread(named) | each


EXPERIMENT = Experiment(__doc__, Config, run, PAGE, preset, COMMANDS)
