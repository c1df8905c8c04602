r"""Proteins: the secondary structure of each residue, from the sequence and its relatives.

    python -m experiments protein_structure                          a bidirectional LSTM, profiles, 8 states
    python -m experiments protein_structure --model lstm             in one direction only
    python -m experiments protein_structure --model rnn              without gates
    python -m experiments protein_structure --model window           without recurrence
    python -m experiments protein_structure --inputs sequence        without profiles
    python -m experiments protein_structure --dataset flip           sequences alone, tested on CB513
    python -m experiments protein_structure predict --run RUN FILE   of the sequences in a FASTA file
    python -m experiments protein_structure --members RUN RUN        the mean probabilities of several models

Papers. Soenderby and Winther 2014 (arXiv:1412.7828) for the bidirectional LSTM; Zhou and Troyanskaya 2014
(arXiv:1403.1347) for the task of eight states; Zemla et al. 1999 (Proteins 34:220) for the overlap of
segments. Data: `experiments/datasets/proteins.py`.

Model. `model.py` has the equations: a dense layer over a window, recurrent layers in both
directions, a dense layer, a softmax over the states of each residue.

Loss. The cross entropy of the state of each residue whose state is known. ``test_q8`` is the accuracy on
these residues, the fraction whose most probable state is correct; ``test_q3`` that of three classes (helix H,
G, I; strand E, B; coil T, S, C), by the sums of their states' probabilities.

Recipe. Adam with a cosine schedule, dropout, an exponential moving average of the parameters, batches of
equally many residues whatever the chains' length; the parameters with the highest accuracy on the validation
set are tested once.
Cost and figures: `experiments/results/protein_structure`.
"""

from pathlib import Path
from typing import NamedTuple

import optax

from experiments import datasets
from experiments.common import models
from experiments.common.experiment import Experiment
from experiments.common.learning import evaluate, finish, learn
from experiments.common.recipes import training_config
from experiments.datasets.chains import Chain
from experiments.datasets.overlap import overlaps
from experiments.datasets.proteins import flip_and_cb513
from experiments.protein_structure import report
from experiments.protein_structure.commands import COMMANDS
from experiments.protein_structure.config import Config, check, preset
from experiments.protein_structure.page import PAGE
from experiments.protein_structure.report import Predictions
from experiments.protein_structure.task import (
    STATES,
    load_members,
    make_batches,
    make_model,
    make_optimizer,
    make_task,
    predict_chains,
)
from lstmjax.training.record import Run

DROPPED = "dropped.txt"
"""File in a run's folder: with CB513, the chains that are not tested."""


class Loaded(NamedTuple):
    """A data set, and the chains of its test split that are related to the training or validation split."""

    parts: datasets.Splits[Chain]
    related: frozenset[int]
    """Indices in the test split of chains with a relative in the other splits."""
    dropped: tuple[Chain, ...]
    """Chains that were removed from the test split because of a relative."""


def load(config: Config, folder: Path) -> Loaded:
    """Load a data set; for CB513, the removed chains and the reasons are also printed and written."""
    if config.dataset == "flip":
        parts, dropped = flip_and_cb513(config.data_dir)
        lines = [
            f"{each.chain.id}: {each.identity:.0%} of {each.length} residues, {each.training} ({each.kind})\n"
            for each in dropped
        ]
        (folder / DROPPED).write_text("".join(lines), "utf-8")
        print(f"{len(dropped)} chains of CB513 are dropped, being like others that are trained or chosen by:")
        print("".join(lines), end="", flush=True)
        return Loaded(parts.limited(config.limit), frozenset(), tuple(each.chain for each in dropped))
    parts = datasets.load(f"protein-{config.dataset}", config.data_dir).limited(config.limit)
    known = [chain.sequence for chain in (*parts.train, *parts.valid)]
    related = overlaps([chain.sequence for chain in parts.test], known)
    return Loaded(parts, frozenset(each.test for each in related), ())


def run(config: Config, run: Run) -> None:
    """Train, test once, and write the model, tables, plots and the summary."""
    check(config)
    loaded = load(config, run.path)
    parts = loaded.parts
    if config.members:
        members = load_members(config)
        valid = predict_chains(members, parts.valid)
        figures = {"parameters": float(optax.tree.size([each.params for each in members]))}
        figures |= {f"valid_{name}": value for name, value in report.figures(report.score(valid)).items()}
        run.mark_tested()
    else:
        members, figures = _train(config, parts, run)
    whole = predict_chains(members, (*parts.test, *loaded.dropped))
    tested = whole.of(range(len(parts.test)))
    scores = report.score(tested)
    figures |= {f"test_{name}": value for name, value in report.figures(scores).items()}
    figures |= {f"test_{name}": value for name, value in beside(tested, whole, loaded).items()}
    report.write(tested, scores, run.path)
    finish(run, figures)
    print((run.path / report.TABLES).read_text("utf-8"))


def _train(
    config: Config, parts: datasets.Splits[Chain], run: Run
) -> tuple[list[models.Saved[Config]], dict[str, float]]:
    """Train a model; it alone, and the metrics of training and validation."""
    model = make_model(config)
    train_set, valid_set = (
        make_batches(config, parts.train, config.buckets),
        make_batches(config, parts.valid),
    )
    task = make_task(config, model, train_set, valid_set)
    settings = training_config(config, train_set.steps_per_epoch)
    curves = {f"q{len(STATES[config.dataset])}": "share right"}
    learned = learn(task, settings, run, make_optimizer(config, settings), curves=curves)
    figures = learned.figures | evaluate(task, learned.params, {"valid": valid_set.once()})
    return [models.Saved(config, model, learned.params)], figures


def beside(tested: Predictions, whole: Predictions, loaded: Loaded) -> dict[str, float]:
    """Further metrics of a test set.

    Its size; its loss; the accuracy of the majority state of the training set; the number of chains with a
    relative in the training or the validation set, and the accuracy on the others; the number of dropped
    chains, and the accuracy when they are included.
    """
    chains, related = tested.chains, loaded.related
    others = [place for place in range(len(chains)) if place not in related]
    found = {
        "nll": report.negative_log_likelihood(tested),
        "chains": float(len(chains)),
        "residues": float(sum(chain.valid.sum() for chain in chains)),
        "dropped_chains": float(len(loaded.dropped)),
        "related_chains": float(len(related)),
    }
    kinds = {"majority": report.majority(loaded.parts.train, chains, tested.states)}
    if related and others:
        kinds["unrelated"] = tested.of(others)
    if loaded.dropped:
        kinds["whole"] = whole
    for kind, each in kinds.items():
        scores = report.figures(report.score(each))
        found |= {f"{kind}_{name}": scores[name] for name in ("q8", "q3") if name in scores}
    return found


EXPERIMENT = Experiment(__doc__, Config, run, PAGE, preset, COMMANDS)
