r"""Polyphonic music: predict which of 88 keys sound in the next frame.

    make run                                                        Bach chorales, with generated audio
    python -m experiments polyphonic_music --dataset jsb            the published benchmark
    python -m experiments polyphonic_music --dataset jsb --head nade
    python -m experiments polyphonic_music --dataset jsb --cell markov    a baseline without memory
    python -m experiments polyphonic_music generate                 new chorales, from the kept model

Papers. Boulanger-Lewandowski, Bengio and Vincent 2012 (arXiv:1206.6392) for the data, the loss and the NADE
head; Chung et al. 2014 (arXiv:1412.3555) and Bai, Kolter and Koltun 2018 (arXiv:1803.01271) for plain LSTMs.

Model. A frame x_t, 88 zeros and ones, goes into an LSTM; its output h_t gives the distribution of x_{t+1}:
with ``--head bernoulli`` the keys are independent, with ``--head nade`` each depends on all lower ones
(`lstmjax.nade`). A frame of zeros precedes each sequence as a start symbol, so that the model can generate
without a prompt.

Loss. The negative log-likelihood in nats of a frame, summed over its 88 keys, given all true frames before
it; summed over all predicted frames of all sequences, each up to its own length, and divided by their number.
``test_nll`` predicts the frames 2..T of a sequence, as Bai et al. do; ``test_nll_all_frames`` predicts the
first one too, and ``test_nll_by_sequence`` is the mean of the per-sequence means.

Recipe. Adam, Gaussian noise on the weights in training, dropout on the outputs of the LSTM, an exponential
moving average of the parameters, readout biases initialized to the log odds of each key; the best parameters
on the validation set are tested once. Cost and figures: `experiments/results/polyphonic_music`.
"""

from experiments import datasets
from experiments.common.experiment import Experiment
from experiments.common.learning import evaluate, finish, learn
from experiments.polyphonic_music import markov
from experiments.polyphonic_music.commands import COMMANDS
from experiments.polyphonic_music.config import Config, preset
from experiments.polyphonic_music.page import BENCHMARK
from experiments.polyphonic_music.report import write_samples
from experiments.polyphonic_music.task import (
    evaluation_batches,
    make_model,
    make_task,
    with_start_frame,
)
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Train, test once, and write plots, generated pieces as MIDI and WAV, and the summary."""
    splits = datasets.load(config.dataset, config.data_dir).limited(config.limit)
    if config.cell == "markov":
        run.mark_tested()
        finish(run, markov.figures(splits))
        return
    model = make_model(config, splits)
    task = make_task(config, model, splits)
    learned = learn(task, config.train, run, curves={"nll": "nats per frame"})
    parts = {"valid": splits.valid, "test": splits.test}
    batches = {name: evaluation_batches(with_start_frame(part), config) for name, part in parts.items()}
    write_samples(config, model, learned.params, splits.test, run.path)
    finish(run, learned.figures | evaluate(task, learned.params, batches))


EXPERIMENT = Experiment(__doc__, Config, run, BENCHMARK.page, preset, COMMANDS)
