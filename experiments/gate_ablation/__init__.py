r"""Gate ablation: what does an LSTM need? Gates, activations and peepholes are left out, one at a time.

    python -m experiments gate_ablation                    the whole LSTM, with peepholes
    python -m experiments gate_ablation --variant nfg      without forget gate; --help lists the others
    python -m experiments gate_ablation report             plot and test the recorded searches

Paper. Greff, Srivastava, Koutnik, Steunebrink and Schmidhuber 2017, "LSTM: A Search Space Odyssey" (IEEE
Trans. Neural Networks and Learning Systems 28(10), arXiv:1503.04069): eight variants of the LSTM, a random
search for each.

Data. JSB Chorales (Boulanger-Lewandowski et al. 2012). Model. One LSTM reads frames of 88 zeros and ones, a
linear layer gives the logits of the next frame's keys, which are independent given the frames before.

Search. Each trial draws its learning rate, its momentum and the noise on its inputs; all trials of a variant
train side by side, as one program, over all devices. Each keeps the parameters that were best on the
validation set. Then networks with other random seeds are trained with the settings of the trial that was best
there. The learning rate falls to zero along a cosine; ``--train.learning-rate`` is a factor of all.

Loss. The negative log-likelihood in nats of a frame, summed over its keys, mean over the frames 2..T of all
chorales, as in `polyphonic_music`. ``test_nll`` is the mean over the networks with the best settings,
``best_test_nll`` that of the best trial, ``top_test_nll`` the mean over the best quarter of the trials: which
they are, the validation set decides. The test set is read once, at the end.

Cost and figures: `experiments/results/gate_ablation`.
"""

import dataclasses

import numpy as np
import optax

from experiments import datasets
from experiments.common import mapped
from experiments.common.experiment import Experiment
from experiments.common.learning import finish
from experiments.common.recipes import training_config
from experiments.datasets import Splits
from experiments.gate_ablation import pictures, search
from experiments.gate_ablation.commands import COMMANDS
from experiments.gate_ablation.config import Config, preset
from experiments.gate_ablation.model import make_model
from experiments.gate_ablation.page import PAGE
from experiments.gate_ablation.search import Settings, Trials
from experiments.gate_ablation.task import evaluation_batches, make_batches, make_task
from lstmjax import training
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Search, train anew with the best settings, test once, and write trials, pictures and summary."""
    splits = datasets.load("jsb", config.data_dir).limited(config.limit)
    settings = search.draw(config)
    tried, tried_task = _train(config, splits, settings, config.seed, run)
    chosen = int(np.argmin(tried.value))
    again, again_task = _train(
        config, splits, search.repeated(settings, chosen, config.seeds), config.seed + 1
    )

    run.mark_tested()
    test = [
        training.evaluate_each(task, best.params, evaluation_batches(splits, splits.test))["nll"]
        for task, best in ((tried_task, tried), (again_task, again))
    ]
    trials = Trials(settings, np.asarray(tried.value), test[0], np.asarray(tried.step))
    search.save(run, trials)
    pictures.draw_trials(trials, config.variant, run.path / "trials.png")
    own = {"parameters": optax.tree.size(again.params) / config.seeds}
    retrained = mapped.spread({"test_nll": test[1], "valid_nll": np.asarray(again.value)})
    finish(run, own | retrained | search.figures(trials))


def _train(
    config: Config, splits: Splits[np.ndarray], settings: Settings, seed: int, run: Run | None = None
) -> tuple[training.Best, training.Task]:
    """Train networks with the given settings; without a run, nothing of it is written."""
    batches = make_batches(config, splits)
    task = make_task(make_model(config, splits.train), batches, splits, settings)
    own = dataclasses.replace(training_config(config, batches.steps_per_epoch), seed=seed)
    return training.fit(task, own, run, search.optimizer(own, settings)).best, task


EXPERIMENT = Experiment(__doc__, Config, run, PAGE, preset, COMMANDS)
