"""Fine-tuning a network to the hand of one writer."""

import dataclasses
from collections.abc import Sequence

from experiments.datasets.files import DataError
from experiments.datasets.ink import Ink
from experiments.handwriting_recognition.data import SOURCES, infeasible, make_batches
from experiments.handwriting_recognition.task import Saved, make_task
from lstmjax import training

STEPS, LEARNING_RATE = 60, 1e-3
"""Chosen on writers of the validation split, with 50 words of each."""


def adapt(saved: Saved, inks: Sequence[Ink], steps: int = STEPS, rate: float = LEARNING_RATE) -> Saved:
    """Fine-tune a network to labelled inks of one writer, distorted and with dropout as in training.

    Raises:
      DataError: an ink has no label, one with other characters than the network knows, or too few points for
        it.
    """
    source = SOURCES[saved.config.task]
    for number, ink in enumerate(inks, start=1):
        unknown = sorted(set(ink.label) - set(source.letters))
        if not ink.label or unknown or (source.whole and len(ink.label) > 1):
            raise DataError(
                f"ink {number} to adapt to has the label {ink.label!r}: it must be "
                f"{'one' if source.whole else 'some'} of the characters {source.letters}."
            )
    batches = make_batches(saved.config, inks, buckets=1)
    if not source.whole and (few := infeasible(batches)):
        raise DataError(f"ink {few[0] + 1} to adapt to is too short for {inks[few[0]].label!r}: remove it.")
    task = make_task(saved.config, saved.model, batches, batches)
    task = dataclasses.replace(task, valid=tuple, examine=None)
    settings = training.TrainConfig(
        steps=steps, learning_rate=rate, schedule="cosine", warmup=5, evaluate_every=steps, log_every=steps
    )
    return saved._replace(params=training.fit(task, settings, params=saved.params).best.params)
