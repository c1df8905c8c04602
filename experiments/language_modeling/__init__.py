r"""Language modelling: predict the next word, or the next character.

    python -m experiments language_modeling --dataset ptb --size small       Zaremba et al., small
    python -m experiments language_modeling --dataset shakespeare            characters, as in char-rnn
    python -m experiments language_modeling --dataset ptb --size awd         Merity et al., the AWD-LSTM
    python -m experiments language_modeling --finetune RUN                   its fine-tuning
    python -m experiments language_modeling --dataset file --corpus FOLDER   token ids of your own, on disk
    python -m experiments language_modeling --dataset ptb --model kneser_ney n-grams, for comparison
    python -m experiments language_modeling generate --run RUN --prompt "the company"
    python -m experiments language_modeling evaluate --run RUN --cache 500
    python -m experiments language_modeling speed                            in comparison with torch.nn.LSTM

Papers. Zaremba, Sutskever and Vinyals 2014 (arXiv:1409.2329): two layers of LSTM on the Penn Treebank, with
dropout between layers only. Merity, Keskar and Socher 2018 (arXiv:1708.02182): the AWD-LSTM, three layers and
every kind of dropout (`awd_lstm.py`).

Model. The embedding of word x_t goes into recurrent layers; the output h_t of the last one gives the
distribution of x_{t+1}, a softmax over the whole vocabulary.

Loss. The text is one stream in ``batch_size`` rows; a step takes the next ``window`` words of each row, and
the state is carried from step to step, with zeros at the beginning of an epoch. The loss is the negative
log-likelihood in nats, summed over the window and averaged over the rows, which the clipping norms of the
paper assume; that of the AWD-LSTM is the mean over both, with penalties added. ``test_perplexity`` is the
exponential of the mean over all words of the test set in one row, ``<eos>`` included; the first word is
conditioned on an ``<eos>``.

Recipe. Those of the paper, sizes small, medium and large: stochastic gradient descent at learning rate 1,
clipping of the gradient norm, a learning rate that decays by a factor in each epoch from some epoch on,
uniform initialization of all parameters. The parameters of the epoch that is best on the validation set are
tested once. Shakespeare has its own recipe, with Adam. ``--size awd`` has the hyperparameters of the command
line in its authors' code: gradient descent at learning rate 30, in windows of random length with a
proportional learning rate; the validation set decides when averaging of the parameters begins (NT-ASGD).
``--finetune`` then continues from the best parameters, with averaging from the start.

Cost and figures: `experiments/results/language_modeling`. The AWD-LSTM of the paper's size takes 500 epochs,
each about a minute on its authors' GPU, and up to as many again to fine-tune. It has not been trained here.
"""

import dataclasses
import math

import numpy as np

from experiments.common.experiment import Experiment
from experiments.common.learning import finish, learn
from experiments.common.models import folder_in, of_run
from experiments.common.recipes import training_config
from experiments.language_modeling.commands import COMMANDS
from experiments.language_modeling.config import Config, preset
from experiments.language_modeling.data import Corpus, evaluation_windows, line_end, load_corpus, open_corpus
from experiments.language_modeling.model import initial_state
from experiments.language_modeling.ngrams import KneserNey
from experiments.language_modeling.page import BENCHMARK
from experiments.language_modeling.report import PICTURE_TOKENS, write_samples, write_units
from experiments.language_modeling.task import (
    NAME,
    VOCABULARY,
    load_model,
    make_model,
    make_optimizer,
    make_task,
    training_stream,
)
from lstmjax import training
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Train, test once, and write the model, its vocabulary, generated text, plots and the summary."""
    if config.corpus is None:
        corpus = load_corpus(config.dataset, config.data_dir, config.limit)
    else:
        corpus = open_corpus(config.corpus)
    if config.model == "kneser_ney":
        run.mark_tested()
        finish(run, count(config, corpus))
    else:
        finish(run, train(config, corpus, run))


def count(config: Config, corpus: Corpus) -> dict[str, float]:
    """Metrics of n-grams of `ORDER` words, with lines as independent sequences."""
    vocabulary = corpus.vocabulary
    (end,) = vocabulary.encode([line_end(vocabulary)]).tolist()
    model = KneserNey(corpus.train[:], len(vocabulary), ORDER[config.dataset], end)
    figures = {"parameters": float(model.size), "order": float(ORDER[config.dataset])}
    for name, tokens in (("valid", corpus.valid), ("test", corpus.test)):
        nll = float(-np.log(model.probabilities(tokens)).mean())
        figures |= {f"{name}_nll": nll, f"{name}_perplexity": math.exp(nll)}
    return figures


def train(config: Config, corpus: Corpus, run: Run) -> dict[str, float]:
    """Train a recurrent network, write everything except the summary, and return its metrics.

    ``test_perplexity`` is that of the best epoch, ``test_perplexity_last`` that of the last one.
    """
    corpus.vocabulary.save(folder_in(run.path) / VOCABULARY)
    model = make_model(config, corpus.vocabulary)
    task = make_task(config, model, corpus)
    steps_per_epoch = training_stream(config, corpus).steps_per_epoch
    settings = training_config(config, steps_per_epoch)
    optimizer = make_optimizer(dataclasses.replace(config, train=settings), steps_per_epoch)
    start = None if config.finetune is None else load_model(of_run(config.finetune, NAME)).params
    learned = learn(task, settings, run, optimizer, start, curves={"nll": "nats per token"})

    figures = learned.figures
    last = training.evaluated(settings, learned.fit.state)
    for suffix, params in (("", learned.params), ("_last", last)):
        for name, tokens in (("valid", corpus.valid), ("test", corpus.test)):
            windows = evaluation_windows(tokens, corpus.vocabulary, rows=1, window=EVALUATION_WINDOW)
            metrics = training.evaluate(task, params, windows, initial_state(model, 1))
            figures |= {f"{name}_{metric}{suffix}": value for metric, value in metrics.items()}
    write_samples(config, model, learned.params, corpus.vocabulary, run)
    write_units(model, learned.params, corpus.vocabulary, corpus.valid[:PICTURE_TOKENS], run)
    return figures


ORDER = {"ptb": 5, "wikitext2": 5, "shakespeare": 8}
"""Order of the n-grams: of words as in the literature, of characters the best on the validation set."""


EVALUATION_WINDOW = 400
"""Window length when the test set is read as one row; the result does not depend on it."""

EXPERIMENT = Experiment(__doc__, Config, run, BENCHMARK.page, preset, COMMANDS)
