r"""Question answering: read a story, and answer a question about it. All twenty tasks of bAbI.

    python -m experiments question_answering                            one attentive reader for all tasks
    python -m experiments question_answering --model lstm               twenty LSTMs, one for each task
    python -m experiments question_answering --readers single           twenty attentive readers
    python -m experiments question_answering --supervision facts        shown where to look, too
    python -m experiments question_answering ask --run RUN              answers about a story that you tell
    python -m experiments question_answering speed                      twenty LSTMs in a step, by vmap or not

Papers. Weston et al. 2015 (arXiv:1502.05698) for the tasks and the LSTM, which reads story and question as
one sequence of words; Sukhbaatar et al. 2015 (arXiv:1503.08895) for memory networks, trained on all tasks
jointly.

Models. `experiments/question_readers.py` has the equations. The answer is one of all answers of the training
part; one that is a list (tasks 8 and 19) is a class of its own, and so right as a whole or not at all. No
reader is told which task a question is of. Stories are cut to their last ``memory`` sentences, or sequences
to their last ``longest`` words, which only long stories of task 3 and a few of task 5 go beyond.

Loss. The cross entropy of the answer. Which sentences an answer follows from is in the data, and is used
under ``--supervision facts`` only: then the first hops are to look at one of them each.

Recipe. Adam with a cosine schedule, dropout, a running average of the parameters; the parameters that make
the fewest errors on the validation part (a tenth of the training part, `experiments/datasets/babi.py`) are
tested once. Readers of single tasks are trained side by side in one step (`experiments/side_by_side.py`).
Cost and figures: `experiments/results/question_answering`.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments import (
    asking,
    datasets,
    plots,
    question_answers,
    question_page,
    question_pictures,
    recipes,
    side_by_side,
)
from experiments.command_line import MODEL, CommonConfig, check_numbers, finished_run
from experiments.datasets.babi import TASKS, Question
from experiments.question_pictures import Answered
from experiments.question_readers import Architecture, AttentiveReader, SequenceReader
from experiments.questions import Language, Sentences, Sequences
from experiments.recipes import Recipe, training_config
from experiments.side_by_side import SideBySide
from experiments.vocabulary import Vocabulary
from lstmjax import checkpoint, parallel, train
from lstmjax.metrics import Mean
from lstmjax.nnx import Functional, functional
from lstmjax.record import Run
from lstmjax.types import Key, Params


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of question_answering; defaults depend on the model, see `preset`."""

    model: Literal["attention", "lstm"] = "attention"
    """A reader that looks at sentences, or an LSTM over all words."""
    size: Literal["1k", "10k"] = "1k"
    """Questions of each task to train on."""
    readers: Literal["auto", "joint", "single"] = "auto"
    """One reader for all tasks, or one for each; auto is single for the LSTM, as in its paper."""
    supervision: Literal["answers", "facts"] = "answers"
    """Learn from answers alone, or also from the sentences that they follow from."""
    hidden: int = 32
    """Units of each LSTM, in each direction."""
    embedding: int = 32
    """Size of the words of the LSTM reader; the other has two times hidden."""
    layers: int = 3
    """Layers over the sentences."""
    hops: int = 3
    """How often the attentive reader looks at the story."""
    matches: int = 8
    """How many numbers say how well a sentence matches what is asked; they divide two times hidden."""
    dropout: float = 0.1
    """Rate at which words, sentences and outputs are dropped."""
    memory: int = 64
    """The most sentences of a story."""
    longest: int = 400
    """The most words of a sequence."""
    batch_size: int = 32
    """Questions of each reader in a step."""
    shares: tuple[float, ...] = (0.4, 0.83, 0.94, 1.0)
    """Questions sorted by the length of their stories are padded to the longest of these shares of them."""
    groups: int = 20
    """Groups of readers of single tasks; those of a group are padded to one length and run by one vmap."""
    epochs: int = 26
    """Passes over the training set, the validation set after each; 0 lets train.steps say."""
    limit: int = 0
    """Use only so many questions of each task in each part; 0 for all. Figures are then of no use."""

    def __post_init__(self) -> None:
        sizes = ("hidden", "embedding", "layers", "hops", "matches", "memory", "longest", "batch_size")
        check_numbers(self, positive=(*sizes, "groups"), not_negative=("epochs", "limit"), rates=("dropout",))
        if sorted(self.shares) != list(self.shares) or self.shares[-1:] != (1.0,) or self.shares[0] <= 0:
            raise train.ConfigError(f"shares must rise from above 0 to 1, got {self.shares}.")
        if self.model == "attention" and 2 * self.hidden % self.matches:
            raise train.ConfigError(
                f"matches must divide two times hidden, got {self.matches} and {self.hidden}."
            )
        if self.model == "lstm" and self.supervision == "facts":
            raise train.ConfigError(
                "supervision by facts is for a model that looks at sentences, not for lstm."
            )


TRAIN = train.TrainConfig(
    steps=0, learning_rate=3e-3, schedule="cosine", warmup=100, clip_norm=5.0, averaging=0.99, log_every=100
)
"""With steps of 0, the epochs say how many there are."""

RECIPES = (
    Recipe({"model": "attention", "readers": "auto"}, {"readers": "joint"}),
    Recipe({"readers": "auto"}, {"readers": "single"}),
    Recipe({"readers": "single"}, {"shares": (0.6, 1.0)}),
    Recipe(
        {"model": "lstm"},
        {"hidden": 64, "dropout": 0.2, "epochs": 50},
        {"warmup": 30, "averaging": 0.98, "log_every": 10},
    ),
    Recipe({"size": "10k"}, {"epochs": 10}),
    Recipe(
        {"quick": True},
        {"hidden": 8, "embedding": 8, "layers": 1, "memory": 10, "longest": 40, "batch_size": 8, "groups": 1}
        | {"epochs": 0, "limit": 4, "shares": (1.0,)},
        {"steps": 8, "evaluate_every": 4, "log_every": 4},
    ),
)
"""Found on the validation parts."""


def preset(config: Config) -> Config:
    """The defaults that belong to the choices of model, size, readers and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)


Collate = Sentences | Sequences


def make_collate(config: Config, language: Language) -> Collate:
    """Makes batches as the model wants them."""
    if config.model == "lstm":
        return Sequences(language, config.longest)
    return Sentences(language, config.memory)


def make_model(config: Config, language: Language) -> Functional:
    """One reader, as a config says."""
    sizes = {name: getattr(config, name) for name in Architecture._fields if hasattr(config, name)}
    numbers = Architecture(words=len(language.words), answers=len(language.answers), **sizes)
    return functional(
        functools.partial({"attention": AttentiveReader, "lstm": SequenceReader}[config.model], numbers)
    )


def make_batches(
    config: Config, collate: Collate, parts: datasets.Splits[Question]
) -> tuple[SideBySide[Question], ...]:
    """The batches of all readers of each part, of shapes that the training part decides on."""
    by_reader = [[list(part)] for part in parts]
    if config.readers == "single":
        by_reader = [[[each for each in part if each.task == task] for task in TASKS] for part in parts]
    lengths = [[[collate.length(each) for each in own] for own in sets] for sets in by_reader]
    bounds = []
    for reader, own in enumerate(lengths[0]):
        most = max(length for sets in lengths for length in sets[reader])
        bounds.append(side_by_side.quantiles(own, config.shares, most))
    groups = side_by_side.by_length([float(np.mean(own)) for own in lengths[0]], config.groups)
    rest = (config.batch_size, bounds, groups)
    return tuple(SideBySide(sets, collate.length, collate, *rest) for sets in by_reader)


def make_task(config: Config, model: Functional, train_set: SideBySide, valid_set: SideBySide) -> train.Task:
    """The training task: the sum of the readers' losses, the errors of all on the validation set."""
    readers = functools.partial(question_answers.figures_of, model, config.supervision == "facts")

    def loss(params: Params, batches: Any, key: Key) -> tuple[jax.Array, train.Metrics]:
        found = side_by_side.apply(readers, params, train_set.groups, batches, key)
        names = [name for name in found[0] if name in ("nll", "facts_nll")]
        total = sum(
            (each[name].total / jnp.maximum(each[name].weight, 1)).sum() for each in found for name in names
        )
        return total, {name: _total(found, name) for name in (*names, "error")}

    def valid() -> Iterator[Any]:
        return valid_set.once() if any(valid_set.sets) else iter(())

    return train.Task(
        init=side_by_side.init(model, len(train_set.sets)),
        loss=loss,
        batch=train_set.at,
        evaluate=functools.partial(evaluate, readers, train_set.groups),
        valid=valid,
        monitor="error",
    )


def evaluate(
    readers: Any, groups: Sequence[side_by_side.Group], params: Params, batches: Any
) -> train.Metrics:
    """The metrics of all readers together."""
    found = side_by_side.apply(readers, params, groups, batches)
    return {name: _total(found, name) for name in found[0]}


def _total(found: Sequence[dict[str, Mean]], name: str) -> Mean:
    sums = [jax.tree.map(jnp.sum, each[name]) for each in found]
    return functools.reduce(Mean.merge, sums)


def run(config: Config, run: Run) -> None:
    """Train, test once, and write the model, tables, pictures, wrong answers and the summary."""
    parts = datasets.load(f"babi-{config.size}", config.data_dir)
    parts = datasets.Splits(*(limited(part, config.limit) for part in parts))
    language = Language.of(parts.train)
    save_language(run.path, language)
    model, collate = make_model(config, language), make_collate(config, language)
    train_set, valid_set, test_set = make_batches(config, collate, parts)
    task = make_task(config, model, train_set, valid_set)
    settings = training_config(config, train_set.steps_per_epoch)
    fit = train.fit(task, settings, run, side_by_side.optimizer(train.adam(settings)))

    params = fit.best.params
    checkpoint.save(run.path / MODEL, params)
    run.mark_tested()
    figures = {"parameters": float(optax.tree.size(params))}
    figures |= {"best_step": float(fit.best.step), "steps": float(fit.state.step)}
    for prefix, batches in (("", test_set), ("valid_", valid_set)):
        found = train.evaluate(task.evaluate, params, batches.once())
        found["mean_accuracy"] = float(np.mean([found[question_page.metric(number)] for number in TASKS]))
        figures |= {f"{prefix}{name}": value for name, value in found.items()}
    figures["failed_tasks"] = float(
        sum(figures[question_page.metric(number)] < question_page.FAILED for number in TASKS)
    )

    plots.learning_curves(run, "error", run.path / "learning_curves.png", ylabel="share of wrong answers")
    question_pictures.draw_accuracies(figures, config.model, run.path / "tasks.png")
    (run.path / "tasks.md").write_text(question_page.per_task({"ours": figures}) + "\n", "utf-8")
    answered = question_answers.answers_of(model, params, language, test_set)
    question_pictures.write_wrong_answers(answered, run.path / "wrong_answers.txt")
    question_pictures.draw_attention(answered, run.path)
    run.finish(figures)
    print((run.path / "tasks.md").read_text("utf-8"))


def limited(questions: Sequence[Question], limit: int) -> tuple[Question, ...]:
    """The first questions of each task; all with a limit of 0."""
    if not limit:
        return tuple(questions)
    return tuple(each for task in TASKS for each in [each for each in questions if each.task == task][:limit])


WORDS, ANSWERS = "words.json", "answers.json"
"""Files in a run's folder: words and answers, in order."""


def save_language(folder: Path, language: Language) -> None:
    """Write words and answers."""
    language.words.save(folder / WORDS)
    language.answers.save(folder / ANSWERS)


class Saved(NamedTuple):
    """The readers of a run."""

    config: Config
    language: Language
    model: Functional
    params: Params


def load_run(path: Path) -> Saved:
    """Read back the best parameters of a run.

    Raises:
      RecordError: there is no run, or it has no model: it has not finished.
    """
    config, saved = finished_run(path, "question_answering", Config)
    language = Language(Vocabulary.load(path / WORDS), Vocabulary.load(path / ANSWERS))
    model = make_model(config, language)
    readers = len(TASKS) if config.readers == "single" else 1
    shapes = jax.eval_shape(side_by_side.init(model, readers), jax.random.key(0))
    return Saved(config, language, model, checkpoint.restore(saved, shapes))


def ask(arguments: Sequence[str]) -> None:
    """``ask --run RUN``: answer questions about a story that is told in lines."""

    def answer(run: Path, file: Path | None = None, task: int = 0) -> None:
        """Answer questions about a story. A line that ends with ? is a question; an empty one begins anew.

        Args:
            run: the run's folder.
            file: the lines; by default what is typed.
            task: which reader is asked, in a run with one for each task.
        """
        saved = load_run(run)
        single = saved.config.readers == "single"
        if single and task not in TASKS:
            raise train.ConfigError(
                f"{run} has a reader for each task: say which with --task 1 to {len(TASKS)}."
            )
        params = jax.tree.map(lambda leaf: leaf[task - 1 if single else 0][None], saved.params)

        def read(question: Question) -> Answered:
            collate = make_collate(saved.config, saved.language)
            length = collate.length(question)
            batches = SideBySide([[question]], collate.length, collate, 1, [(length,)], ((0,),))
            (answered,) = question_answers.answers_of(saved.model, params, saved.language, batches)
            return answered

        lines = sys.stdin if file is None else file.read_text("utf-8").splitlines()
        for said in asking.converse(lines, saved.language, read):
            print(said, flush=True)

    tyro.cli(answer, prog="python -m experiments question_answering ask", args=arguments)


def speed(arguments: Sequence[str]) -> None:
    """``speed --groups 20 3``: time a training step of the twenty LSTMs, run one by one and by vmap."""

    def measure(groups: tuple[int, ...] = (20, 3, 1), steps: int = 12, data_dir: Path | None = None) -> None:
        """Time training steps of the LSTMs of single tasks, in different numbers of groups.

        Args:
            groups: numbers of groups to compare; the readers of a group are run by one vmap.
            steps: how many steps of each are timed.
            data_dir: folder of the data sets.
        """
        parallel.keep_memory()
        parts = datasets.load("babi-1k", data_dir)
        language = Language.of(parts.train)
        for number in groups:
            config = preset(Config(model="lstm", groups=number))
            model, collate = make_model(config, language), make_collate(config, language)
            train_set, valid_set, _ = make_batches(config, collate, parts)
            task = make_task(config, model, train_set, valid_set)
            settings = training_config(config, train_set.steps_per_epoch)
            optimizer = side_by_side.optimizer(train.adam(settings))
            step, state = (
                train.make_step(task, settings, optimizer),
                train.init_state(task, settings, optimizer),
            )
            for longest, times in side_by_side.time_steps(step, state, train_set.at, steps).items():
                first, *later = times
                print(
                    f"{number:2} groups, up to {longest:4} words: {min(later, default=first):6.3f} seconds a "
                    f"step, first step {first:5.1f}",
                    flush=True,
                )

    tyro.cli(measure, prog="python -m experiments question_answering speed", args=arguments)


COMMANDS = {"ask": ask, "speed": speed}
"""What `python -m experiments question_answering NAME` does beside training."""

page, readme = question_page.page, question_page.readme
