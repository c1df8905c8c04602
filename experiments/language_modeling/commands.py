"""The subcommands of language_modeling: generate, evaluate, speed."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro
from jaxtyping import Int

from experiments.common import models
from experiments.common.flags import Count, NotNegative, Number, Seed, Share
from experiments.datasets.text import EOS
from experiments.language_modeling import adaptive_evaluation, rival
from experiments.language_modeling.config import Config, preset
from experiments.language_modeling.data import Corpus, line_end, load_corpus, open_corpus, written
from experiments.language_modeling.model import initial_state, stream, window_loss
from experiments.language_modeling.task import (
    NAME,
    Saved,
    architecture,
    load_model,
    make_model,
    make_optimizer,
    make_task,
)
from lstmjax import training
from lstmjax.training import parallel
from lstmjax.training.streams import TokenStream, Window


def generate(arguments: Sequence[str]) -> None:
    """``generate --prompt TEXT``: write the continuation of a prompt, token by token."""

    def write(
        source: models.Chosen,
        prompt: str = "",
        tokens: Number = 300,
        temperature: NotNegative = 1.0,
        top_p: Share = 1.0,
        seed: Seed = 1,
    ) -> None:
        """Write text that a model generates.

        Args:
            source: the model; by default the kept one of Shakespeare's characters.
            prompt: beginning of the text; by default the beginning of a line.
            tokens: number of generated words or characters.
            temperature: 1 samples from the model's distribution, less favours likely tokens, 0 is greedy.
            top_p: nucleus sampling: sample from the fewest likeliest tokens with this total probability.
            seed: random seed.
        """
        _, vocabulary, model, params = load_model(source.folder(NAME, default="shakespeare-char"))
        pieces = prompt.split() if EOS in vocabulary.tokens else list(prompt)
        try:
            numbers = vocabulary.encode([line_end(vocabulary), *pieces]).tolist()
        except KeyError as error:
            raise training.ConfigError(f"--prompt: {error.args[0]}.") from error
        print("".join(written(vocabulary, number) for number in numbers[1:]), end="", flush=True)
        following = stream(model, params, numbers, jax.random.key(seed), temperature, top_p)
        for token in itertools.islice(following, tokens):
            print(written(vocabulary, token), end="", flush=True)
        print()

    tyro.cli(write, prog="python -m experiments language_modeling generate", args=arguments)


def evaluate(arguments: Sequence[str]) -> None:
    """``evaluate``: test a saved model, without and with adaptation to the text."""

    def write(
        source: models.Chosen,
        cache: Number = 0,
        dynamic: NotNegative = 0.0,
        decay: NotNegative = 0.02,
        data_dir: Path | None = None,
    ) -> None:
        """Print the test perplexity of a model; also with a cache or dynamic evaluation, if requested.

        Args:
            source: the model; by default the kept one of the Penn Treebank.
            cache: number of last words in a neural cache, such as 500; its theta and weight are chosen on the
                validation set. 0 for none.
            dynamic: learning rate of dynamic evaluation, such as 1e-4; 0 for none.
            decay: decay of dynamic evaluation towards the initial parameters.
            data_dir: folder of the data sets.
        """
        parallel.keep_memory()
        saved = load_model(source.folder(NAME, default="ptb-small"))
        own = saved.config.corpus
        corpus = (
            load_corpus(saved.config.dataset, data_dir, saved.config.limit)
            if own is None
            else open_corpus(own)
        )
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
"""Candidates for the hyperparameters of a neural cache."""

SEGMENT = 20
"""Segment length of dynamic evaluation, in words."""


def _evaluate_dynamically(
    saved: Saved, corpus: Corpus, tokens: Int[np.ndarray, " tokens"], rate: float, decay: float
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


def speed(arguments: Sequence[str]) -> None:
    """``speed --size small``: training words per second, compared with the same model on torch.nn.LSTM."""

    def measure(
        size: Literal["small", "medium", "large"] = "small",
        dataset: Literal["ptb", "wikitext2", "shakespeare"] = "ptb",
        rounds: Count = 5,
        steps: Count = 20,
        data_dir: Path | None = None,
    ) -> None:
        """Measure training steps of this library and of PyTorch, in alternation.

        Args:
            size: the model and its recipe.
            dataset: the text.
            rounds: rounds of measurements, over which the median is taken.
            steps: training steps per round.
            data_dir: folder of the data sets.
        """
        parallel.keep_memory()
        config = preset(Config(dataset=dataset, size=size))
        corpus = load_corpus(dataset, data_dir)
        numbers = architecture(config, len(corpus.vocabulary))
        windows = TokenStream(corpus.train, config.batch_size, config.window)
        ours = training_step(config, corpus)
        torchs = rival.torch_step(
            rival.torch_model(numbers),
            config.batch_size,
            config.train.learning_rate,
            config.train.clip_norm,
        )
        names = {"lstmjax": ours, "torch.nn.LSTM": torchs}
        found = rival.words_per_second(names, lambda step: windows.at(0, step), rounds, steps)
        medians = {name: float(np.median(each)) for name, each in found.items()}
        for name, median in medians.items():
            print(
                f"{name:<14} {median:8.0f} words/s  (from {min(found[name]):.0f} to {max(found[name]):.0f})"
            )
        print(f"ratio          {medians['lstmjax'] / medians['torch.nn.LSTM']:8.2f}")

    tyro.cli(measure, prog="python -m experiments language_modeling speed", args=arguments)


def training_step(config: Config, corpus: Corpus) -> rival.Step:
    """The step of `training.fit`, as a function of the window alone."""
    task = make_task(config, make_model(config, corpus.vocabulary), corpus)
    settings = dataclasses.replace(config.train, steps=1)
    optimizer = make_optimizer(config, steps_per_epoch=2**30)
    step, states = (
        training.make_step(task, settings, optimizer),
        [training.init_state(task, settings, optimizer)],
    )

    def run(window: Window) -> float:
        states[0], metrics = step(states[0], window)
        return float(metrics["loss"].compute())

    return run


COMMANDS = {"generate": generate, "evaluate": evaluate, "speed": speed}
"""The subcommands; each takes the arguments after its name."""
