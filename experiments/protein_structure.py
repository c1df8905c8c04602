r"""Proteins: the secondary structure of each residue, from the sequence and its relatives.

    python -m experiments protein_structure                          a bidirectional LSTM, profiles, 8 states
    python -m experiments protein_structure --model lstm             from one end only
    python -m experiments protein_structure --model rnn              without gates
    python -m experiments protein_structure --model window           without recurrence
    python -m experiments protein_structure --inputs sequence        without profiles
    python -m experiments protein_structure --dataset flip           sequences alone, tested on CB513
    python -m experiments protein_structure predict --run RUN FILE   of the sequences in a FASTA file
    python -m experiments protein_structure ensemble --runs RUN RUN  of the means of several models

Papers. Soenderby and Winther 2014 (arXiv:1412.7828) for the bidirectional LSTM; Zhou and Troyanskaya 2014
(arXiv:1403.1347) for the task of eight states; Zemla et al. 1999 (Proteins 34:220) for the overlap of
segments. Data: `experiments/datasets/proteins.py`.

Model. `experiments/protein_model.py` has the equations: a dense layer over a window, recurrent layers in both
directions, a dense layer, a softmax over the states of each residue.

Loss. The cross entropy of the state of each residue whose state is known. ``test_q8`` is the share of these
residues whose likeliest state is the true one; ``test_q3`` that of three classes (helix H, G, I; strand E, B;
coil T, S, C), by the sums of their states' probabilities.

Recipe. Adam with a cosine, dropout, a running average of the parameters, batches of as many residues whatever
the chains' length; the parameters with the most residues right on the validation set are tested once.
Cost and figures: `experiments/results/protein_structure`.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import jax
import numpy as np
import optax
import tyro

from experiments import datasets, fasta, plots, profiles, protein_page, recipes, residues, structure_pictures
from experiments import structure_report as report
from experiments.command_line import CommonConfig, check_numbers, from_mapping, output_of
from experiments.datasets.files import DataError
from experiments.datasets.proteins import STATES3, STATES8, Chain, flip_and_cb513
from experiments.protein_model import Architecture, StructureModel
from experiments.recipes import Recipe, training_config
from experiments.structure_report import Predictions
from lstmjax import checkpoint, train
from lstmjax.batching import PairBatches, Pairs
from lstmjax.nnx import Functional, functional
from lstmjax.record import Run
from lstmjax.types import Key, Params


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of protein_structure; defaults depend on data set, model and inputs, see `preset`."""

    dataset: Literal["nr25", "flip", "cb6133"] = "nr25"
    """Chains of promod3's structure database; those of NetSurfP-2.0, tested on CB513; CullPDB, tested on
    CB513, as published, to be downloaded by hand."""
    model: Literal["blstm", "large", "lstm", "rnn", "window"] = "blstm"
    """Bidirectional LSTM, a larger one, LSTM from the first residue on, bidirectional Elman network, or no
    recurrence."""
    inputs: Literal["auto", "profile", "sequence"] = "auto"
    """Sequence and profile, or the sequence alone; auto is profile where the data set has some."""
    hidden: int = 160
    """Units of a recurrent layer in each direction."""
    layers: int = 2
    """Recurrent layers."""
    embedding: int = 128
    """Units of the dense layers below and above."""
    window: int = 7
    """Residues that the lowest layer sees, the one in question in their middle."""
    dropout: float = 0.3
    """Rate at which outputs of layers are dropped."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Who takes the steps."""
    batch_residues: int = 4000
    """Residues of a batch, padding included."""
    buckets: int = 5
    """Number of lengths that chains are padded to; each is compiled for."""
    epochs: int = 8
    """Passes over the training set, with an evaluation after each; 0 lets train.steps and
    train.evaluate_every say."""
    limit: int = 0
    """Use only so many chains of each split; 0 for all. Figures are then of no use."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("hidden", "embedding", "window", "batch_residues", "buckets"),
            not_negative=("layers", "epochs", "limit"),
            rates=("dropout",),
        )
        if self.window % 2 == 0:
            raise train.ConfigError(f"window must be odd, for a residue in its middle, got {self.window}.")
        if (self.dataset, self.inputs) == ("flip", "profile"):
            raise train.ConfigError("flip has sequences only: inputs must be sequence.")


TRAIN = train.TrainConfig(
    steps=0, learning_rate=2e-3, schedule="cosine", warmup=200, averaging=0.998, log_every=50
)
"""With steps of 0, the epochs say how many there are."""

RECIPES = (
    Recipe({"dataset": "flip"}, {"inputs": "sequence", "epochs": 4}),
    Recipe({"inputs": "auto"}, {"inputs": "profile"}),
    Recipe({"model": "large"}, {"hidden": 400, "window": 1, "dropout": 0.5, "optimizer": "rmsprop"}),
    Recipe({"model": "large"}, train={"learning_rate": 1e-3}),
    Recipe({"model": "lstm"}, {"hidden": 268}),
    Recipe({"model": "rnn"}, {"hidden": 320}, {"learning_rate": 1e-3}),
    Recipe({"model": "window"}, {"layers": 0, "window": 17, "embedding": 512}),
    Recipe(
        {"quick": True},
        {"hidden": 16, "embedding": 16, "buckets": 2, "epochs": 0, "limit": 40},
        {"steps": 40, "evaluate_every": 20, "log_every": 10, "warmup": 10, "averaging": 0.9},
    ),
)
"""Defaults that belong to choices, see `experiments.recipes`. The models `blstm`, `lstm` and `rnn` have about
as many parameters as each other."""


def preset(config: Config) -> Config:
    """The defaults that belong to the choices of data set, model, inputs and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)


STATES = {"nr25": STATES8, "flip": STATES3, "cb6133": STATES8}
"""The states that the labels of each data set tell apart."""

CELLS = {"blstm": "lstm", "large": "lstm", "lstm": "lstm", "rnn": "rnn", "window": "lstm"}
"""The cell of each model."""


def make_batches(config: Config, chains: Sequence[Chain]) -> PairBatches:
    """Batches of a part of the data set."""
    shape = config.batch_residues, config.buckets
    return residues.batches(chains, config.inputs == "profile", STATES[config.dataset], *shape)


def make_model(config: Config) -> Functional:
    """The model that a config says."""
    architecture = Architecture(
        features=residues.width(config.inputs == "profile"),
        states=len(STATES[config.dataset]),
        window=config.window,
        embedding=config.embedding,
        cell=CELLS[config.model],
        hidden=config.hidden,
        layers=config.layers,
        both_directions=config.model != "lstm",
        dropout=config.dropout,
    )
    return functional(functools.partial(StructureModel, architecture))


def make_task(config: Config, model: Functional, train_set: PairBatches, valid: PairBatches) -> train.Task:
    """The training task; what decides is how many residues of the validation set are right."""
    states = STATES[config.dataset]

    def loss(params: Params, batch: Pairs, key: Key) -> tuple[jax.Array, train.Metrics]:
        metrics = residues.figures_of(states, *residues.logits_of(model, params, batch, key))
        return metrics["nll"].compute(), metrics

    def evaluate(params: Params, batch: Pairs) -> train.Metrics:
        return residues.figures_of(states, *residues.logits_of(model, params, batch))

    return train.Task(
        init=model.init,
        loss=loss,
        batch=train_set.at,
        evaluate=evaluate,
        valid=valid.once,
        monitor=f"-q{len(states)}",
    )


def make_optimizer(config: Config, settings: train.TrainConfig) -> optax.GradientTransformation:
    """Adam or RMSProp, with schedule and clipping."""
    return train.optimizer(settings, {"adam": optax.adam, "rmsprop": optax.rmsprop}[config.optimizer])


def load_parts(config: Config, folder: Path) -> datasets.Splits[Chain]:
    """The chains; which ones of CB513 were dropped, and why, is printed and written into the folder."""
    if config.dataset != "flip":
        return datasets.load(f"protein-{config.dataset}", config.data_dir)
    parts, dropped = flip_and_cb513(config.data_dir)
    lines = [
        f"{each.chain.id}: {each.identity:.0%} of {each.length} residues as in {each.training} ({each.kind})"
        for each in dropped
    ]
    (folder / DROPPED).write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{len(dropped)} chains of CB513 are dropped, being like others that are trained or chosen by:")
    print("\n".join(lines), flush=True)
    return parts


def run(config: Config, run: Run) -> None:
    """Train, test once, and write the model, tables, pictures and the summary."""
    parts = load_parts(config, run.path)
    parts = datasets.Splits(*(part[: config.limit or None] for part in parts))
    states, model = STATES[config.dataset], make_model(config)
    train_set, valid_set, test_set = (make_batches(config, part) for part in parts)
    task = make_task(config, model, train_set, valid_set)
    settings = training_config(config, train_set.steps_per_epoch)
    fit = train.fit(task, settings, run, make_optimizer(config, settings))

    params = fit.best.params
    checkpoint.save(run.path / MODEL, params)
    figures = {"parameters": float(optax.tree.size(params))}
    figures |= {"best_step": float(fit.best.step), "steps": float(fit.state.step)}
    for name, batches in (("valid", valid_set), ("test", test_set)):
        found = train.evaluate(task.evaluate, params, batches.once())
        figures |= {f"{name}_{metric}": value for metric, value in found.items()}
    commonest = report.figures(report.majority(parts.train, parts.test, states))
    figures |= {f"test_majority_{name}": commonest[name] for name in commonest if name.startswith("q")}
    predictions = Predictions(parts.test, residues.probabilities_of(model, params, test_set), states)
    figures |= {f"test_{name}": value for name, value in report.figures(predictions).items()}
    report.write(predictions, run.path)
    plots.learning_curves(
        run, f"q{len(states)}", run.path / "learning_curves.png", ylabel="share of residues"
    )
    run.finish(figures)
    print((run.path / report.TABLES).read_text("utf-8"))


MODEL, DROPPED = "model.safetensors", "dropped.txt"
"""Files in a run's folder: the best parameters; with CB513, which chains are not tested."""


class Saved(NamedTuple):
    """A model that has been trained."""

    config: Config
    model: Functional
    params: Params


def load_run(path: Path) -> Saved:
    """Read back the best parameters of a run.

    Raises:
      RecordError: there is no run, or it has no model: it has not finished.
    """
    config = from_mapping(Config, Run.open(path).config)
    model = make_model(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return Saved(config, model, checkpoint.restore(output_of(path, MODEL), shapes))


def predict(arguments: Sequence[str]) -> None:
    """``predict --run RUN FILE``: the structure of sequences in a FASTA file, as tables and pictures."""

    def write(
        run: Path,
        file: Annotated[Path, tyro.conf.Positional],
        alignments: Path | None = None,
        pictures: Path | None = None,
    ) -> None:
        """Write the states of each residue with their probabilities to standard output.

        Args:
            run: the run's folder.
            file: sequences in FASTA format; - for standard input.
            alignments: a folder with <id>.a3m of each sequence, as hhblits -oa3m makes them, for a model of
                profiles.
            pictures: a folder for a picture of each sequence.
        """
        saved = load_run(run)
        wants_profile = saved.config.inputs == "profile"
        if wants_profile != (alignments is not None):
            hint = "give --alignments, or take a run with --inputs sequence"
            raise train.ConfigError(
                f"{run}: the model looks at "
                + (f"profiles: {hint}." if wants_profile else "sequences alone: leave --alignments out.")
            )
        described = list(_described(file, alignments))
        for number, (record, features) in enumerate(described, start=1):
            for remark in record.remarks:
                print(f"{record.id}: {remark}", file=sys.stderr)
            probabilities = residues.probabilities(saved.model, saved.params, features)
            states = STATES[saved.config.dataset]
            fasta.write_table(record, probabilities, states, sys.stdout)
            if pictures is not None:
                pictures.mkdir(parents=True, exist_ok=True)
                path = pictures / f"{fasta.file_name(number, record.id)}.png"
                structure_pictures.draw_chain(record.id, record.sequence, probabilities, states, path)
                print(f"{record.id}: {path}", file=sys.stderr)

    tyro.cli(write, prog="python -m experiments protein_structure predict", args=arguments)


def _described(file: Path, alignments: Path | None) -> Iterator[tuple[fasta.Record, np.ndarray]]:
    """The records of a file, and the features of each."""
    for record in fasta.read(_lines(file), str(file)):
        profile = None
        if alignments is not None:
            path = alignments / f"{record.id}.a3m"
            profile = profiles.read(_lines(path), str(path), record.sequence)
        yield record, residues.features(record.sequence, profile)


def _lines(file: Path) -> Iterable[str]:
    """Those of a file, or of standard input for a hyphen."""
    if file == Path("-"):
        return sys.stdin
    try:
        return file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error


def ensemble(arguments: Sequence[str]) -> None:
    """``ensemble --runs RUN RUN``: test the mean of the probabilities of several models."""

    def test(runs: tuple[Path, ...], out: Path | None = None, data_dir: Path | None = None) -> None:
        """Print the figures of each model, and of the mean of their probabilities, on the test set.

        Args:
            runs: folders of runs on one data set.
            out: a folder for tables and pictures of the mean.
            data_dir: folder of the data sets.
        """
        members = [load_run(run) for run in runs]
        names = sorted({member.config.dataset for member in members})
        if len(names) != 1:
            raise train.ConfigError(f"an ensemble needs runs on one data set, got {', '.join(names)}.")
        chains, states = datasets.load(f"protein-{names[0]}", data_dir).test, STATES[names[0]]
        found = []
        for run, (config, model, params) in zip(runs, members, strict=True):
            found.append(residues.probabilities_of(model, params, make_batches(config, chains)))
            print(f"{run}: {_shares(Predictions(chains, found[-1], states))}", flush=True)
        mean = Predictions(chains, [np.mean(rows, axis=0) for rows in zip(*found, strict=True)], states)
        print(f"mean of {len(runs)}: {_shares(mean)}")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            report.write(mean, out)

    tyro.cli(test, prog="python -m experiments protein_structure ensemble", args=arguments)


def _shares(predictions: Predictions) -> str:
    chosen = ("q8", "q3", "sov8", "sov3")
    figures = report.figures(predictions)
    return "  ".join(f"{name} {100 * figures[name]:.2f} %" for name in chosen if name in figures)


COMMANDS = {"predict": predict, "ensemble": ensemble}
"""What `python -m experiments protein_structure NAME` does beside training."""

page, readme = protein_page.page, protein_page.readme
