r"""Language modelling: predict the next word, or the next character.

    python -m experiments language_modeling --dataset ptb --size small       Zaremba et al., small
    python -m experiments language_modeling --dataset shakespeare            characters, as char-rnn has them
    python -m experiments language_modeling --dataset ptb --size awd         Merity et al., the AWD-LSTM
    python -m experiments language_modeling --finetune RUN                   and its second training
    python -m experiments language_modeling --dataset ptb --model kneser_ney n-grams, to compare with
    python -m experiments language_modeling generate --run RUN --prompt "the company"
    python -m experiments language_modeling evaluate --run RUN --cache 500
    python -m experiments language_modeling speed                            beside torch.nn.LSTM

Papers. Zaremba, Sutskever and Vinyals 2014 (arXiv:1409.2329): two layers of LSTM on the Penn Treebank, with
dropout between layers only. Merity, Keskar and Socher 2018 (arXiv:1708.02182): the AWD-LSTM, three layers and
every kind of dropout (`experiments/awd_lstm.py`).

Model. The embedding of word x_t goes into recurrent layers; from the last one's output h_t comes the
distribution of x_{t+1}, a softmax over the whole vocabulary.

Loss. The text is one stream in ``batch_size`` rows; a step takes the next ``window`` words of each row, and
the state goes on from step to step, with zeros at the beginning of an epoch. The loss is the negative
log-likelihood in nats, summed over the window and averaged over the rows, as the clipping norms of the paper
want it; that of the AWD-LSTM is the mean over both, with penalties added. ``test_perplexity`` is the
exponential of the mean over all words of the test set, ``<eos>`` counted and the first word given an
``<eos>``, in one row from beginning to end.

Recipe. Those of the paper, sizes small, medium and large: stochastic gradient descent at 1, gradients
clipped in their norm, the rate falling by a factor after each epoch from some epoch on; all parameters
start uniform. What was best on the validation set after an epoch is tested once. Shakespeare has a recipe of
its own, with Adam. ``--size awd`` has the command of its authors' code: gradient descent at 30, in windows of
drawn length with the rate in proportion, until validation says that the mean of the parameters should begin
(NT-ASGD); ``--finetune`` then goes on from the best ones, with such a mean from the start.

Cost and figures: `experiments/results/language_modeling`. The AWD-LSTM of the paper's size takes 500 epochs,
each about a minute on its authors' GPU, and up to as many again to fine-tune. It has not been trained here.
"""

import dataclasses
import itertools
import math

import jax
import numpy as np
import optax
from jaxtyping import Int

from experiments import plots, unit_pictures
from experiments.benchmark import Benchmark, Published
from experiments.command_line import MODEL
from experiments.corpus import Corpus, evaluation_windows, line_end, load_corpus, written
from experiments.language_commands import COMMANDS
from experiments.language_config import Config, preset
from experiments.language_model import initial_state, stream, unit_outputs
from experiments.language_task import (
    VOCABULARY,
    load_run,
    make_model,
    make_optimizer,
    make_task,
    training_stream,
)
from experiments.ngrams import KneserNey
from experiments.recipes import training_config
from experiments.vocabulary import Vocabulary
from lstmjax import checkpoint, train
from lstmjax.nnx import Functional
from lstmjax.record import Run
from lstmjax.types import Params

__all__ = ["BENCHMARK", "COMMANDS", "Config", "preset", "run"]


def run(config: Config, run: Run) -> None:
    """Train, test once, and write the model, its vocabulary, generated text, pictures and the summary."""
    corpus = load_corpus(config.dataset, config.data_dir, config.limit)
    if config.model == "kneser_ney":
        run.mark_tested()
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
    steps_per_epoch = training_stream(config, corpus).steps_per_epoch
    settings = training_config(config, steps_per_epoch)
    optimizer = make_optimizer(dataclasses.replace(config, train=settings), steps_per_epoch)
    start = None if config.finetune is None else load_run(config.finetune).params
    fit = train.fit(task, settings, run, optimizer, start)

    params = fit.best.params
    checkpoint.save(run.path / MODEL, params)
    run.mark_tested()
    figures = {"parameters": float(optax.tree.size(params))}
    for suffix, each in (("", params), ("_last", train.evaluated(fit.state))):
        for name, tokens in (("valid", corpus.valid), ("test", corpus.test)):
            windows = evaluation_windows(tokens, corpus.vocabulary, rows=1, window=EVALUATION_WINDOW)
            metrics = train.evaluate_sequence(task.evaluate, each, initial_state(model, 1), windows)
            figures |= {f"{name}_{metric}{suffix}": value for metric, value in metrics.items()}
    figures |= {"best_step": float(fit.best.step), "steps": float(fit.state.step)}

    write_samples(config, model, params, corpus.vocabulary, run)
    write_pictures(model, params, corpus.vocabulary, corpus.valid[:PICTURE_TOKENS], run)
    return figures


ORDER = {"ptb": 5, "wikitext2": 5, "shakespeare": 8}
"""Longest n-grams: of words as in the literature, of characters what is best on the validation set."""

EVALUATION_WINDOW = 400
"""Steps of a window of the one row that is tested; the figure does not depend on it."""


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
    units = unit_outputs(model, params, tokens)
    text = vocabulary.decode(tokens)
    found = unit_pictures.find(units, text)
    unit_pictures.draw(found[:4], units, text, run.path / "units.png")


PICTURE_TOKENS = 20_000
"""How much of the validation set the units are sought in."""


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
        Published("ptb", "AWD-LSTM, fine-tuned", 57.3, "Merity et al. 2018", "ptb-awd"),
        Published("ptb", "AWD-LSTM, not fine-tuned", 58.8, "Merity et al. 2018"),
        Published("ptb", "AWD-LSTM, fine-tuned, neural cache", 52.8, "Merity et al. 2018"),
        Published("ptb", "5-gram, modified Kneser-Ney", 141.2, "Mikolov et al. 2011", "ptb-kneser-ney"),
        Published("wikitext2", "LSTM of 1024 units", 99.3, "Grave et al. 2017"),
        Published("wikitext2", "AWD-LSTM, fine-tuned", 65.8, "Merity et al. 2018", "wikitext2-awd"),
        Published("wikitext2", "AWD-LSTM, fine-tuned, neural cache", 52.0, "Merity et al. 2018"),
    ),
    note="The whole test set, `<eos>` counted: the network reads it as one row from beginning to end, the "
    "first word given an `<eos>`; the n-grams (5 words, 8 characters) take it line by line. While training, "
    "the validation set is read in as many rows as a batch has, which is quicker; the validation figures "
    "here are of one row again. Of Shakespeare, cut at 90 and 95 per cent, the records have the nats per "
    "character as `valid_nll` and `test_nll`. The paper divides the medium size's rate by 1.2 after each "
    "epoch; 0.8 is the factor of later implementations. A fine-tuned run's minutes are of its own training "
    "alone. wikitext2-small has two epochs of the recipe's thirteen, one at the full rate; ptb-rnn and "
    "ptb-gru have eight, at a rate that was not searched for. Minutes are of cores that other work shared.",
)
