r"""Language modelling: predict the next word, or the next character.

    python -m experiments language_modeling --dataset ptb --size small       Zaremba et al., small
    python -m experiments language_modeling --dataset shakespeare            characters, as char-rnn has them
    python -m experiments language_modeling --dataset ptb --model kneser_ney n-grams, to compare with
    python -m experiments language_modeling generate --run RUN --prompt "the company"
    python -m experiments language_modeling evaluate --run RUN --cache 500
    python -m experiments language_modeling speed                            beside torch.nn.LSTM

Paper. Zaremba, Sutskever and Vinyals 2014 (arXiv:1409.2329): two layers of LSTM on the Penn Treebank, with
dropout between layers only.

Model. The embedding of word x_t goes into recurrent layers; from the last one's output h_t comes the
distribution of x_{t+1}, a softmax over the whole vocabulary.

Loss. The text is one stream in ``batch_size`` rows; a step takes the next ``window`` words of each row, and
the state goes on from step to step, with zeros at the beginning of an epoch. The loss is the negative
log-likelihood in nats, summed over the window and averaged over the rows, as the clipping norms of the paper
want it. ``test_perplexity`` is the exponential of the mean over all words of the test set, ``<eos>`` counted
and the first word given an ``<eos>``, in one row from beginning to end.

Recipe. Those of the paper, sizes small, medium and large: stochastic gradient descent at 1, gradients
clipped in their norm, the rate falling by a factor after each epoch from some epoch on; all parameters
start uniform. What was best on the validation set after an epoch is tested once. Shakespeare has a recipe of
its own, with Adam. Cost and figures: `experiments/results/language_modeling`.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jaxtyping import Int

from experiments import adaptive_evaluation, language_speed, plots, unit_pictures
from experiments.benchmark import Benchmark, Published
from experiments.command_line import CommonConfig, from_mapping
from experiments.corpus import Corpus, evaluation_windows, line_end, load_corpus, written
from experiments.datasets.text import EOS
from experiments.language_model import (
    Architecture,
    LanguageModel,
    evaluate_window,
    initial_state,
    layer_outputs,
    stream,
    window_loss,
)
from experiments.ngrams import KneserNey
from experiments.vocabulary import Vocabulary
from lstmjax import checkpoint, parallel, train
from lstmjax.nnx import Functional, functional
from lstmjax.record import RecordError, Run
from lstmjax.streams import TokenStream, Window
from lstmjax.types import Key, Params, State


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of language_modeling; defaults depend on data set and size, see `preset`."""

    dataset: Literal["ptb", "wikitext2", "shakespeare"] = "ptb"
    """Penn Treebank or WikiText-2 in words, or Shakespeare in characters."""
    size: Literal["small", "medium", "large"] = "small"
    """The sizes of Zaremba et al., with the recipe of each; Shakespeare has one recipe for all."""
    model: Literal["lstm", "gru", "rnn", "kneser_ney"] = "lstm"
    """The recurrent cell; or n-grams under modified Kneser-Ney smoothing, counted and not trained."""
    hidden: int = 200
    """Size of the embedding and of each hidden state."""
    layers: int = 2
    """Number of recurrent layers."""
    dropout: float = 0.0
    """Rate at which inputs of each layer, and outputs of the last, are dropped."""
    init_scale: float = 0.1
    """All parameters start uniform in plus and minus this; 0 leaves each layer its own start."""
    batch_size: int = 20
    """Rows that the text is cut into for training."""
    window: int = 20
    """Steps that gradients go back."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """Plain stochastic gradient descent, or Adam with the schedule of the training config."""
    decay: float = 0.5
    """Factor of SGD's learning rate for each epoch after the first `decay_after`."""
    decay_after: int = 4
    """Epochs at the full learning rate."""
    epochs: int = 13
    """Passes over the training set, with an evaluation after each; 0 lets train.steps and
    train.evaluate_every say."""
    limit: int = 0
    """Use only so many tokens of each split; 0 for all. Figures are then of no use."""
    samples: int = 3
    """Number of texts to generate."""
    sample_tokens: int = 300
    """Length of each."""
    temperature: float = 1.0
    """Of the generated texts: 1 is the model itself, less takes likely tokens more often."""
    top_p: float = 1.0
    """Of the generated texts: draw from the fewest likeliest tokens that have this probability."""

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "batch_size", "window", "sample_tokens"):
            if getattr(self, name) < 1:
                raise train.ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("init_scale", "decay_after", "epochs", "limit", "samples", "temperature"):
            if getattr(self, name) < 0:
                raise train.ConfigError(f"{name} must not be negative, got {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise train.ConfigError(f"dropout must lie in [0, 1), got {self.dropout}.")
        for name in ("decay", "top_p"):
            if not 0 < getattr(self, name) <= 1:
                raise train.ConfigError(f"{name} must lie in (0, 1], got {getattr(self, name)}.")


class Recipe(NamedTuple):
    """Defaults that belong to a choice."""

    when: dict[str, Any]
    """The config values that it belongs to."""
    config: dict[str, Any]
    """Config values that differ from the defaults."""
    train: dict[str, Any]
    """Values of the training config that differ from `TRAIN`."""


TRAIN = train.TrainConfig(steps=0, learning_rate=1.0, clip_norm=5.0, log_every=100, checkpoint_every=1000)
"""With steps of 0, the epochs say how many there are."""

RECIPES = (
    Recipe(
        {"size": "medium"},
        {"hidden": 650, "window": 35, "dropout": 0.5, "init_scale": 0.05}
        | {"decay": 0.8, "decay_after": 6, "epochs": 39},
        {},
    ),
    Recipe(
        {"size": "large"},
        {"hidden": 1500, "window": 35, "dropout": 0.65, "init_scale": 0.04}
        | {"decay": 1 / 1.15, "decay_after": 14, "epochs": 55},
        {"clip_norm": 10.0},
    ),
    Recipe(
        {"dataset": "shakespeare"},
        {"hidden": 256, "batch_size": 32, "window": 64, "dropout": 0.1, "init_scale": 0.0}
        | {"optimizer": "adam", "epochs": 6, "sample_tokens": 600, "temperature": 0.8},
        {"learning_rate": 3e-3, "schedule": "cosine", "clip_norm": 64.0, "averaging": 0.995},
    ),
    Recipe(
        {"quick": True},
        {"hidden": 24, "window": 10, "batch_size": 20, "epochs": 0, "limit": 4000},
        {"steps": 60, "evaluate_every": 30, "log_every": 15},
    ),
)
"""Taken one after the other, where they belong to what is chosen by then. Small is what `Config` has."""


def preset(config: Config) -> Config:
    """The defaults that belong to the choices of data set, size, model and ``--quick`` in ``config``."""
    config = dataclasses.replace(config, train=TRAIN)
    for recipe in RECIPES:
        if all(getattr(config, name) == value for name, value in recipe.when.items()):
            settings = dataclasses.replace(config.train, **recipe.train)
            config = dataclasses.replace(config, **recipe.config, train=settings)
    return config


def make_model(config: Config, vocabulary: Vocabulary) -> Functional:
    """The model that a config says."""
    return functional(functools.partial(LanguageModel, architecture(config, len(vocabulary))))


def architecture(config: Config, vocabulary: int) -> Architecture:
    """The numbers of the model that a config says."""
    return Architecture(
        vocabulary, config.hidden, config.layers, config.model, config.dropout, config.init_scale
    )


def make_task(config: Config, model: Functional, corpus: Corpus) -> train.SequentialTask:
    """The training task: windows of the stream, with the state carried from each to the next."""
    windows = TokenStream(corpus.train, config.batch_size, config.window)

    def loss(params: Params, state: State, window: Window, key: Key) -> Any:
        state, nll = window_loss(model, params, state, window, key)
        return nll.total / config.batch_size, (state, {"nll": nll})

    return train.SequentialTask(
        init=model.init,
        initial_carry=functools.partial(initial_state, model, config.batch_size),
        loss=loss,
        batch=windows.at,
        initial_evaluation_carry=functools.partial(initial_state, model, config.batch_size),
        evaluate=functools.partial(evaluate_window, model),
        valid=functools.partial(
            evaluation_windows, corpus.valid, corpus.vocabulary, config.batch_size, config.window
        ),
    )


def make_optimizer(config: Config, steps_per_epoch: int) -> optax.GradientTransformation:
    """SGD with the paper's schedule, or Adam."""
    if config.optimizer == "adam":
        return train.adam(config.train)

    def rate(step: jax.Array) -> jax.Array:
        epoch = step // steps_per_epoch
        return config.train.learning_rate * config.decay ** jnp.maximum(epoch + 1 - config.decay_after, 0)

    clip = optax.clip_by_global_norm(config.train.clip_norm) if config.train.clip_norm else optax.identity()
    return optax.chain(clip, optax.sgd(rate))


def training_config(config: Config, steps_per_epoch: int) -> train.TrainConfig:
    """The training config, with the steps of its epochs if these say how many there are.

    Raises:
      ConfigError: both epochs and steps say it.
    """
    if not config.epochs:
        return config.train
    if config.train.steps:
        raise train.ConfigError(
            f"--epochs {config.epochs} and --train.steps {config.train.steps} both say how long to train: "
            "give --epochs 0 with --train.steps."
        )
    steps = config.epochs * steps_per_epoch
    return dataclasses.replace(config.train, steps=steps, evaluate_every=steps_per_epoch)


def run(config: Config, run: Run) -> None:
    """Train, test once, and write the model, its vocabulary, generated text, pictures and the summary."""
    corpus = load_corpus(config.dataset, config.data_dir, config.limit)
    figures = count(config, corpus) if config.model == "kneser_ney" else learn(config, corpus, run)
    run.finish(figures)
    print("  ".join(f"{name} {value:.4g}" for name, value in figures.items()))


def count(config: Config, corpus: Corpus) -> dict[str, float]:
    """Figures of n-grams of `ORDER` words, lines taken one by one."""
    vocabulary = corpus.vocabulary
    (end,) = vocabulary.encode([line_end(vocabulary)]).tolist()
    model = KneserNey(corpus.train, len(vocabulary), ORDER[config.dataset], end)
    figures = {"parameters": float(model.size), "order": float(ORDER[config.dataset])}
    for name, tokens in (("valid", corpus.valid), ("test", corpus.test)):
        nll = float(-np.log(model.probabilities(tokens)).mean())
        figures |= {f"{name}_nll": nll, f"{name}_perplexity": math.exp(nll)}
    return figures


def learn(config: Config, corpus: Corpus, run: Run) -> dict[str, float]:
    """Train a recurrent network, write all but the summary, and return its figures."""
    corpus.vocabulary.save(run.path / VOCABULARY)
    model = make_model(config, corpus.vocabulary)
    task = make_task(config, model, corpus)
    steps_per_epoch = TokenStream(corpus.train, config.batch_size, config.window).steps_per_epoch
    settings = training_config(config, steps_per_epoch)
    optimizer = make_optimizer(dataclasses.replace(config, train=settings), steps_per_epoch)
    fit = train.fit(task, settings, run, optimizer)

    params = fit.best.params
    checkpoint.save(run.path / MODEL, params)
    figures = {"parameters": float(sum(leaf.size for leaf in jax.tree.leaves(params)))}
    for name, tokens in (("valid", corpus.valid), ("test", corpus.test)):
        windows = evaluation_windows(tokens, corpus.vocabulary, rows=1, window=EVALUATION_WINDOW)
        metrics = train.evaluate_sequence(task.evaluate, params, initial_state(model, 1), windows)
        figures |= {f"{name}_{metric}": value for metric, value in metrics.items()}
    figures |= {"best_step": float(fit.best.step), "steps": float(fit.state.step)}

    write_samples(config, model, params, corpus.vocabulary, run)
    write_pictures(model, params, corpus.vocabulary, corpus.valid[:PICTURE_TOKENS], run)
    return figures


ORDER = {"ptb": 5, "wikitext2": 5, "shakespeare": 8}
"""Longest n-grams: of words as in the literature, of characters what is best on the validation set."""

EVALUATION_WINDOW = 400
"""Steps of a window of the one row that is tested; the figure does not depend on it."""

MODEL, VOCABULARY = "model.safetensors", "vocabulary.json"
"""Files in a run's folder: the best parameters, and the tokens in the order of their numbers."""


def write_samples(
    config: Config, model: Functional, params: Params, vocabulary: Vocabulary, run: Run
) -> None:
    """Texts that the model makes up after the end of a line, as ``sample-N.txt``."""
    prompt = vocabulary.encode([line_end(vocabulary)]).tolist()
    for number in range(1, config.samples + 1):
        key = jax.random.fold_in(jax.random.key(config.train.seed), number)
        tokens = stream(model, params, prompt, key, config.temperature, config.top_p)
        text = "".join(written(vocabulary, token) for token in itertools.islice(tokens, config.sample_tokens))
        (run.path / f"sample-{number}.txt").write_text(f"{text.strip()}\n", "utf-8")


def write_pictures(
    model: Functional, params: Params, vocabulary: Vocabulary, tokens: Int[np.ndarray, " time"], run: Run
) -> None:
    """The course of the training, and units of the network that track something in the given text."""
    plots.learning_curves(run, "nll", run.path / "learning_curves.png", ylabel="nats per token")
    outputs = layer_outputs(model, params, tokens)
    units = np.moveaxis(outputs, 1, -1).reshape(-1, len(tokens))
    text = vocabulary.decode(tokens)
    found = unit_pictures.find(units, text)
    unit_pictures.draw(found[:4], units, text, run.path / "units.png")


PICTURE_TOKENS = 20_000
"""How much of the validation set the units are sought in."""


def generate(arguments: Sequence[str]) -> None:
    """``generate --run RUN --prompt TEXT``: write what a saved model goes on with, as it comes."""

    def write(
        run: Path,
        prompt: str = "",
        tokens: int = 300,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 1,
    ) -> None:
        """Write the text that a run's model goes on with.

        Args:
            run: the run's folder.
            prompt: how the text begins; by default at the beginning of a line.
            tokens: how many words or characters are added.
            temperature: 1 is the model itself, less takes likely tokens more often, 0 always the likeliest.
            top_p: draw from the fewest likeliest tokens that have this probability.
            seed: another seed gives another text.
        """
        _, vocabulary, model, params = load_run(run)
        pieces = prompt.split() if EOS in vocabulary.tokens else list(prompt)
        numbers = vocabulary.encode([line_end(vocabulary), *pieces]).tolist()
        print("".join(written(vocabulary, number) for number in numbers[1:]), end="", flush=True)
        following = stream(model, params, numbers, jax.random.key(seed), temperature, top_p)
        for token in itertools.islice(following, tokens):
            print(written(vocabulary, token), end="", flush=True)
        print()

    tyro.cli(write, prog="python -m experiments language_modeling generate", args=arguments)


def evaluate(arguments: Sequence[str]) -> None:
    """``evaluate --run RUN``: test a saved model, plain and with what adapts it to the text."""

    def write(
        run: Path, cache: int = 0, dynamic: float = 0.0, decay: float = 0.02, data_dir: Path | None = None
    ) -> None:
        """Print the test perplexity of a run's model; with a cache or dynamic evaluation also that.

        Args:
            run: the run's folder.
            cache: how many of the last words a neural cache holds, such as 500; what it is mixed in with is
                chosen on the validation set. 0 for none.
            dynamic: the learning rate of dynamic evaluation, such as 1e-4; 0 for none.
            decay: of dynamic evaluation, back to the parameters that it began with.
            data_dir: folder of the data sets.
        """
        parallel.keep_memory()
        saved = load_run(run)
        corpus = load_corpus(saved.config.dataset, data_dir)
        start = corpus.vocabulary.encode([line_end(corpus.vocabulary)])
        texts = [np.concatenate([start, tokens]) for tokens in (corpus.valid, corpus.test)]
        valid, test = (adaptive_evaluation.read(saved.model, saved.params, text) for text in texts)
        print(f"test_perplexity          {adaptive_evaluation.perplexity(test.probabilities):.3f}")
        if cache:
            best = adaptive_evaluation.choose(valid, cache, CACHE_THETAS, CACHE_WEIGHTS)
            found = adaptive_evaluation.cache_probabilities(test, cache, best.theta)
            mixed = adaptive_evaluation.mix(test.probabilities, found, best.weight)
            chosen = f"theta {best.theta:g}, weight {best.weight:g}"
            print(f"with a cache of {cache:<8} {adaptive_evaluation.perplexity(mixed):.3f}  ({chosen})")
        if dynamic:
            figure = _evaluate_dynamically(saved, corpus, texts[1], dynamic, decay)
            print(f"with dynamic evaluation  {figure:.3f}")

    tyro.cli(write, prog="python -m experiments language_modeling evaluate", args=arguments)


CACHE_THETAS, CACHE_WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8), (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
"""What a neural cache's settings are chosen among."""

SEGMENT = 20
"""Words after which dynamic evaluation takes a step."""


def _evaluate_dynamically(
    saved: "Saved", corpus: Corpus, tokens: Int[np.ndarray, " tokens"], rate: float, decay: float
) -> float:
    loss = functools.partial(window_loss, saved.model)
    rows = saved.config.batch_size
    windows = TokenStream(corpus.train, rows, SEGMENT)
    batches = (windows.at(0, step) for step in range(windows.steps_per_epoch))
    squares = adaptive_evaluation.mean_squares(loss, saved.params, initial_state(saved.model, rows), batches)
    text = TokenStream(tokens, 1, SEGMENT).once()
    return adaptive_evaluation.evaluate_dynamically(
        loss, saved.params, initial_state(saved.model, 1), text, squares, rate, decay
    )


class Saved(NamedTuple):
    """The model of a run."""

    config: Config
    vocabulary: Vocabulary
    model: Functional
    params: Params


def load_run(path: Path) -> Saved:
    """Read back the best parameters of a run.

    Raises:
      RecordError: there is no run, or it has no model (it has not finished, or counted n-grams).
    """
    config = from_mapping(Config, Run.open(path).config)
    if not (path / MODEL).is_file():
        raise RecordError(f"{path} has no {MODEL}: the run has not finished, or was one of n-grams.")
    vocabulary = Vocabulary.load(path / VOCABULARY)
    model = make_model(config, vocabulary)
    params = checkpoint.restore(path / MODEL, jax.eval_shape(model.init, jax.random.key(0)))
    return Saved(config, vocabulary, model, params)


def speed(arguments: Sequence[str]) -> None:
    """``speed --size small``: words per second in training, beside the same model with ``torch.nn.LSTM``."""

    def measure(
        size: Literal["small", "medium", "large"] = "small",
        dataset: Literal["ptb", "wikitext2", "shakespeare"] = "ptb",
        rounds: int = 5,
        steps: int = 20,
        data_dir: Path | None = None,
    ) -> None:
        """Measure training steps of this library and of PyTorch, taking turns.

        Args:
            size: the model and its recipe.
            dataset: the text.
            rounds: how often each has its turn; the median counts.
            steps: training steps of a turn.
            data_dir: folder of the data sets.
        """
        parallel.keep_memory()
        config = preset(Config(dataset=dataset, size=size))
        corpus = load_corpus(dataset, data_dir)
        numbers = architecture(config, len(corpus.vocabulary))
        windows = TokenStream(corpus.train, config.batch_size, config.window)
        ours = training_step(config, corpus)
        torchs = language_speed.torch_step(
            language_speed.torch_model(numbers),
            config.batch_size,
            config.train.learning_rate,
            config.train.clip_norm,
        )
        names = {"lstmjax": ours, "torch.nn.LSTM": torchs}
        found = language_speed.words_per_second(names, lambda step: windows.at(0, step), rounds, steps)
        medians = {name: float(np.median(each)) for name, each in found.items()}
        for name, median in medians.items():
            print(
                f"{name:<14} {median:8.0f} words/s  (from {min(found[name]):.0f} to {max(found[name]):.0f})"
            )
        print(f"ratio          {medians['lstmjax'] / medians['torch.nn.LSTM']:8.2f}")

    tyro.cli(measure, prog="python -m experiments language_modeling speed", args=arguments)


def training_step(config: Config, corpus: Corpus) -> language_speed.Step:
    """The step of `train.fit`, as a function of the window alone."""
    task = make_task(config, make_model(config, corpus.vocabulary), corpus)
    settings = dataclasses.replace(config.train, steps=1)
    optimizer = make_optimizer(config, steps_per_epoch=2**30)
    step, states = train.make_step(task, settings, optimizer), [train.init_state(task, settings, optimizer)]

    def run(window: Window) -> float:
        states[0], metrics = step(states[0], window)
        return float(metrics["loss"].compute())

    return run


COMMANDS = {"generate": generate, "evaluate": evaluate, "speed": speed}
"""What `python -m experiments language_modeling NAME` does beside training."""

BENCHMARK = Benchmark(
    title="Language modelling",
    metric="test_perplexity",
    unit="perplexity",
    group_by="dataset",
    groups={"ptb": "Penn Treebank", "wikitext2": "WikiText-2", "shakespeare": "Shakespeare, characters"},
    published=(
        Published("ptb", "LSTM, small", 114.5, "Zaremba et al. 2014", "ptb-small"),
        Published("ptb", "LSTM, medium", 82.7, "Zaremba et al. 2014", "ptb-medium"),
        Published("ptb", "LSTM, large", 78.4, "Zaremba et al. 2014", "ptb-large"),
        Published("ptb", "5-gram, modified Kneser-Ney", 141.2, "Mikolov et al. 2011", "ptb-kneser-ney"),
        Published("wikitext2", "LSTM of 1024 units", 99.3, "Grave et al. 2017"),
    ),
    note="The whole test set, `<eos>` counted: the network reads it as one row from beginning to end, the "
    "first word given an `<eos>`; the n-grams (5 words, 8 characters) take it line by line. While training, "
    "the validation set is read in as many rows as a batch has, which is quicker; the validation figures "
    "here are of one row again. Of Shakespeare, cut at 90 and 95 per cent, the records have the nats per "
    "character as `valid_nll` and `test_nll`. The paper divides the medium size's rate by 1.2 after each "
    "epoch; 0.8 is the factor of later implementations. Minutes are of two cores that other work shared.",
)
