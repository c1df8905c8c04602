r"""Machine translation: descriptions of photographs from English into German, and other sentences.

    python -m experiments machine_translation                            English to German, Multi30k
    python -m experiments machine_translation --pair de-en               and back
    python -m experiments machine_translation --attention none           as Sutskever et al.
    python -m experiments machine_translation --dataset tatoeba --pair en-es
    python -m experiments machine_translation translate --run RUN        lines of standard input
    python -m experiments machine_translation compare --runs RUN RUN     BLEU by the length of sentences

Papers. Sutskever, Vinyals and Le 2014 (arXiv:1409.3215); Bahdanau, Cho and Bengio 2015 (arXiv:1409.0473);
Luong, Pham and Manning 2015 (arXiv:1508.04025). Data: Elliott et al. 2016 (arXiv:1605.00459).

Model. Pieces of words (byte pair encoding) go through a bidirectional LSTM; an LSTM writes the translation
piece by piece, and looks at the source in each step (`experiments.translation_model`).

Loss. The cross entropy of each piece of the translation given all before it, smoothed: a part of the
probability belongs to all pieces alike. ``valid_nll`` is without smoothing. What counts is BLEU, by sacrebleu
on text as it is written, case and punctuation included: ``test2016_bleu`` with beam search,
``test2016_greedy_bleu`` without.

Recipe. Adam with a cosine, dropout on inputs and outputs of layers, a running average of the parameters,
batches of as many steps whatever the sentences' length; the parameters with the best BLEU of greedy
translations of the validation set are tested once. Cost and figures: see the page of the results.
"""

import dataclasses
import functools
import itertools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
import tyro
from jaxtyping import Int

from experiments import datasets, plots, recipes
from experiments import translation_report as report
from experiments.benchmark import Benchmark, Published
from experiments.command_line import (
    MODEL,
    CommonConfig,
    check_numbers,
    config_of,
    finished_run,
    output_of,
)
from experiments.datasets import translations
from experiments.recipes import Recipe, training_config
from experiments.subwords import Subwords
from experiments.translation_model import (
    Architecture,
    Attention,
    Search,
    Translator,
    alignments,
    evaluate_pairs,
    pair_losses,
    translate,
)
from experiments.translation_report import Translations
from lstmjax import checkpoint, parallel, train
from lstmjax.batching import PairBatches, Pairs, pad
from lstmjax.nnx import Functional, functional
from lstmjax.record import Run
from lstmjax.types import Key, Params


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of machine_translation; defaults depend on data set and attention, see `preset`."""

    dataset: Literal["multi30k", "tatoeba"] = "multi30k"
    """Descriptions of photographs, or sentences of learners."""
    pair: Literal["en-de", "de-en", "en-fr", "fr-en", "en-es", "es-en"] = "en-de"
    """Source and target language; Spanish is in Tatoeba only, German in Multi30k only."""
    attention: Attention = "general"
    """Luong's dot, scaled_dot or general, Bahdanau's, or none, for the form of Sutskever et al."""
    input_feeding: bool = True
    """The decoder's last output is part of its next input; with one of Luong's attentions."""
    hidden: int = 320
    """Size of the decoder's state; each direction of the encoder has half of it."""
    embedding: int = 256
    """Size of embeddings, and of what the next piece is read from."""
    layers: int = 1
    """Number of layers of encoder and decoder each."""
    dropout: float = 0.2
    """Rate at which inputs and outputs of layers are dropped."""
    label_smoothing: float = 0.1
    """Part of the probability that belongs to all pieces alike."""
    scheduled_sampling: float = 0.0
    """How often the decoder reads its own likeliest piece in training, in the end; it rises from 0."""
    vocabulary: int = 4000
    """Most pieces of a vocabulary."""
    joint: bool = False
    """One vocabulary for both languages, and one table of embeddings."""
    batch_steps: int = 1600
    """Pieces of the longer side of a batch, padding included."""
    buckets: int = 6
    """Number of shapes that batches have; each is compiled for."""
    max_pieces: int = 50
    """Longer sentences are not trained on."""
    epochs: int = 24
    """Passes over the training set, with an evaluation after each; 0 lets train.steps and
    train.evaluate_every say."""
    beams: int = 5
    """Hypotheses that beam search keeps."""
    length_penalty: float | None = None
    """Of beam search: alpha of Wu et al.; by default the one of `LENGTH_PENALTIES` that is best on the
    validation set."""
    coverage_penalty: float = 0.0
    """Of beam search: beta of Wu et al."""
    limit: int = 0
    """Use only so many sentences of each split; 0 for all. Figures are then of no use."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("hidden", "embedding", "layers", "batch_steps", "buckets", "max_pieces", "beams"),
            not_negative=("length_penalty", "coverage_penalty", "epochs", "limit"),
            rates=("dropout", "label_smoothing", "scheduled_sampling"),
        )
        if self.attention != "none" and self.hidden % 2:
            raise train.ConfigError(f"hidden must be even for two directions, got {self.hidden}.")
        other = self.beside_english
        if other not in LANGUAGES[self.dataset]:
            known = ", ".join(LANGUAGES[self.dataset])
            raise train.ConfigError(f"{self.dataset} has English and {known}, and no pair {self.pair}.")

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target."""
        source, target = self.pair.split("-")
        return source, target

    @property
    def beside_english(self) -> str:
        """The one that is not English."""
        return (set(self.languages) - {"en"}).pop()


LANGUAGES = {"multi30k": ("de", "fr"), "tatoeba": ("es", "fr")}
"""What there is beside English."""

LENGTH_PENALTIES = (0.6, 0.8, 1.0, 1.2, 1.4)
"""What the length penalty is chosen among."""

TATOEBA = {"es": "tatoeba-spa", "fr": "tatoeba-fra"}


TRAIN = train.TrainConfig(
    steps=0, learning_rate=2e-3, schedule="cosine", warmup=200, averaging=0.998, log_every=50
)
"""With steps of 0, the epochs say how many there are."""

RECIPES = (
    Recipe({"attention": "none"}, {"layers": 2}),
    Recipe({"dataset": "tatoeba"}, {"epochs": 10, "batch_steps": 2500}),
    Recipe(
        {"quick": True},
        {"hidden": 32, "embedding": 32, "vocabulary": 600, "buckets": 2, "epochs": 0, "limit": 300},
        {"steps": 60, "evaluate_every": 30, "log_every": 15, "warmup": 10},
    ),
)
"""Defaults that belong to choices, see `experiments.recipes`."""


def preset(config: Config) -> Config:
    """The defaults that belong to the choices of data set, attention and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)


class Bitext(NamedTuple):
    """Sentences of two languages."""

    sources: list[str]
    targets: list[str]


class Corpus(NamedTuple):
    """A data set in one direction."""

    train: Bitext
    valid: Bitext
    tests: dict[str, Bitext]
    """By the names that their figures have."""


def load_corpus(config: Config) -> Corpus:
    """The sentences of a data set in the languages of the config."""

    def bitext(sentences: Sequence[Mapping[str, str]]) -> Bitext:
        chosen = sentences[: config.limit or None]
        return Bitext(*([sentence[language] for sentence in chosen] for language in config.languages))

    def load(name: str) -> Any:
        return datasets.load(name, config.data_dir)

    if config.dataset == "multi30k":
        splits = load("multi30k")
        tests = {
            "test2016": splits.test,
            "test2017": translations.multi30k("test_2017_flickr", config.data_dir),
        }
    else:
        splits = load(TATOEBA[config.beside_english])
        tests = {"test": splits.test}
    return Corpus(
        bitext(splits.train), bitext(splits.valid), {name: bitext(part) for name, part in tests.items()}
    )


class Vocabularies(NamedTuple):
    """Pieces of both languages; the same twice if they are joint."""

    source: Subwords
    target: Subwords

    @classmethod
    def learn(cls, config: Config, texts: Bitext) -> "Vocabularies":
        """From the sentences of the training set."""
        if config.joint:
            both = Subwords.learn([*texts.sources, *texts.targets], config.vocabulary)
            return cls(both, both)
        return cls(*(Subwords.learn(side, config.vocabulary) for side in texts))

    def save(self, folder: Path) -> None:
        """Write both."""
        for name, subwords in zip(VOCABULARIES, self, strict=True):
            subwords.save(folder / name)

    @classmethod
    def load(cls, folder: Path) -> "Vocabularies":
        """Read what `save` wrote."""
        return cls(*(Subwords.load(folder / name) for name in VOCABULARIES))


VOCABULARIES, FIGURES = ("source.model", "target.model"), "figures.json"
"""Files in a run's folder: SentencePiece's models of both languages, all figures."""


class Saved(NamedTuple):
    """A model with what it takes to use it."""

    vocabularies: Vocabularies
    model: Functional
    params: Params


def make_model(config: Config, vocabularies: Vocabularies) -> Functional:
    """The model that a config says."""
    architecture = Architecture(
        source_vocabulary=len(vocabularies.source),
        target_vocabulary=len(vocabularies.target),
        joint=config.joint,
        embedding=config.embedding,
        hidden=config.hidden,
        layers=config.layers,
        attention=config.attention,
        input_feeding=config.input_feeding,
        dropout=config.dropout,
    )
    return functional(functools.partial(Translator, architecture))


class TrainingBatch(NamedTuple):
    """What a training step takes."""

    pairs: Pairs
    own_rate: np.ndarray
    """Scalar: how often the decoder reads its own likeliest piece."""


def pair_batches(config: Config, vocabularies: Vocabularies, texts: Bitext, longest: int = 0) -> PairBatches:
    """Batches of a bitext, without sentences of more than ``longest`` pieces if that is not 0."""
    encoded = [
        (vocabularies.source.encode(source), vocabularies.target.encode(target))
        for source, target in zip(*texts, strict=True)
    ]
    kept = [pair for pair in encoded if not longest or max(map(len, pair)) <= longest]
    sources, targets = zip(*kept, strict=True)
    return PairBatches(sources, targets, config.batch_steps, config.buckets)


def make_task(
    config: Config, settings: train.TrainConfig, saved: Saved, batches: PairBatches, valid: Bitext
) -> train.Task:
    """The training task; what decides is the BLEU of greedy translations of the validation set."""
    model, smoothing, samples = saved.model, config.label_smoothing, config.scheduled_sampling > 0

    def loss(params: Params, batch: TrainingBatch, key: Key) -> tuple[jax.Array, train.Metrics]:
        own_rate = batch.own_rate if samples else 0.0
        nll, uniform = pair_losses(model, params, batch.pairs, key, own_rate)
        return (1 - smoothing) * nll.compute() + smoothing * uniform.compute(), {"nll": nll}

    def batch(seed: int, step: int) -> TrainingBatch:
        rate = config.scheduled_sampling * step / max(settings.steps, 1)
        return TrainingBatch(batches.at(seed, step), np.asarray(rate, np.float32))

    def examine(params: Params) -> dict[str, float]:
        hypotheses = translate_all(saved._replace(params=params), valid.sources, Search(beams=1))
        return {"bleu": report.bleu(Translations(*valid, hypotheses))}

    validation = pair_batches(config, saved.vocabularies, valid)
    return train.Task(
        init=model.init,
        loss=loss,
        batch=batch,
        evaluate=functools.partial(evaluate_pairs, model),
        valid=validation.once,
        monitor="-bleu",
        examine=examine,
    )


ROWS = 32
"""Sentences that are translated at a time."""

LONGEST = 128
"""Pieces of a source that is translated as a whole; longer ones are cut at spaces."""


def translate_all(saved: Saved, texts: Sequence[str], search: Search, rows: int = ROWS) -> list[str]:
    """Translations of texts, in their order; that of an empty one is empty.

    Sources are padded to powers of two and batches filled up, so that few shapes are compiled. A text of more
    than `LONGEST` pieces is cut at spaces into as few parts as can be, which are translated one by one.
    """
    parts = [
        (number, part) for number, text in enumerate(texts) for part in cut(saved.vocabularies.source, text)
    ]
    order = sorted(range(len(parts)), key=lambda index: len(parts[index][1]))
    found = {}
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        sources = [parts[index][1] for index in chosen]
        time = max(8, 1 << (max(map(len, sources)) - 1).bit_length())
        source = pad(sources, time, rows)
        tokens, _ = translate(saved.model, saved.params, *source, search, max_length=2 * time)
        for index, row in zip(chosen, np.asarray(tokens), strict=False):
            found[index] = saved.vocabularies.target.decode(row)
    whole: list[list[str]] = [[] for _ in texts]
    for index, (number, _) in enumerate(parts):
        whole[number].append(found[index])
    return [" ".join(pieces) for pieces in whole]


def cut(subwords: Subwords, text: str) -> Iterator[Int[np.ndarray, " pieces"]]:
    """The pieces of a text; of a long one part by part, of an empty one nothing.

    Parts end at spaces; a word of more than `LONGEST` pieces is cut by its characters.
    """
    words = text.split()
    if not words:
        return
    encoded = subwords.encode(text)
    if len(encoded) <= LONGEST:
        yield encoded
    elif len(words) > 1:
        middle = len(words) // 2
        yield from cut(subwords, " ".join(words[:middle]))
        yield from cut(subwords, " ".join(words[middle:]))
    else:
        yield from cut(subwords, text.strip()[: len(text.strip()) // 2])
        yield from cut(subwords, text.strip()[len(text.strip()) // 2 :])


def run(config: Config, run: Run) -> None:
    """Train, translate the tests, and write the model, its vocabularies, tables, pictures and the summary."""
    corpus = load_corpus(config)
    vocabularies = Vocabularies.learn(config, corpus.train)
    vocabularies.save(run.path)
    saved = Saved(vocabularies, make_model(config, vocabularies), None)
    batches = pair_batches(config, vocabularies, corpus.train, config.max_pieces)
    settings = training_config(config, batches.steps_per_epoch)
    task = make_task(config, settings, saved, batches, corpus.valid)
    fit = train.fit(task, settings, run)

    saved = saved._replace(params=fit.best.params)
    checkpoint.save(run.path / MODEL, saved.params)
    run.mark_tested()
    figures = {"parameters": float(optax.tree.size(saved.params))}
    metrics = train.evaluate(task.evaluate, saved.params, task.valid())
    figures |= {f"valid_{name}": value for name, value in metrics.items()}
    figures |= {"best_step": float(fit.best.step), "steps": float(fit.state.step)}
    figures |= test(config, saved, corpus, run)
    figures["train_sentences_per_second"] = training_rate(run, len(batches.sources), batches.steps_per_epoch)
    report.write_figures(figures, run.path / FIGURES)
    if config.attention != "none":
        write_attention(saved, corpus.valid, run.path)
    for metric, unit in (("nll", "nats per piece"), ("bleu", "BLEU of greedy translations")):
        plots.learning_curves(run, metric, run.path / f"learning_curves_{metric}.png", ylabel=unit)
    run.finish(figures)
    print("  ".join(f"{name} {value:.4g}" for name, value in figures.items()))


def test(config: Config, saved: Saved, corpus: Corpus, run: Run) -> dict[str, float]:
    """Figures of the validation and all test sets, by beam search and greedily; tables and pictures."""
    beam = choose_search(config, saved, corpus.valid)
    figures = {"length_penalty": beam.length_penalty}
    for name, texts in {"valid": corpus.valid, **corpus.tests}.items():
        for prefix, search in ((name, beam), (f"{name}_greedy", Search(beams=1))):
            start = time.monotonic()
            hypotheses = translate_all(saved, texts.sources, search)
            seconds = time.monotonic() - start
            translations = Translations(*texts, hypotheses)
            found = report.figures(prefix, translations)
            figures |= found if prefix == name else {f"{prefix}_bleu": found[f"{prefix}_bleu"]}
            # The last test set, when all has been compiled.
            kind = "greedy" if search.beams == 1 else "beam"
            figures[f"{kind}_sentences_per_second"] = len(texts.sources) / seconds
            if prefix == name:
                report.write_table(translations, run.path / f"{name}-translations.txt")
                (run.path / f"{name}-hypotheses.txt").write_text("\n".join(hypotheses) + "\n", "utf-8")
    for name in corpus.tests:
        report.draw_lengths({"ours": figures}, name, run.path / f"{name}-bleu-by-length.png")
    return figures


def choose_search(config: Config, saved: Saved, valid: Bitext) -> Search:
    """Beam search as the config has it, with the length penalty that is best on the validation set."""
    penalties = LENGTH_PENALTIES if config.length_penalty is None else (config.length_penalty,)
    found = [Search(config.beams, penalty, config.coverage_penalty) for penalty in penalties]
    if len(found) == 1 or config.beams == 1:
        return found[0]

    def score(search: Search) -> float:
        return report.bleu(Translations(*valid, translate_all(saved, valid.sources, search)))

    return max(found, key=score)


def training_rate(run: Run, pairs: int, steps_per_epoch: int) -> float:
    """Sentence pairs of training in a second: the median over what lies between two reports."""
    entries = run.metrics("train")
    rates = [
        (after.step - before.step) / (after.seconds - before.seconds)
        for before, after in itertools.pairwise(entries)
        if after.seconds > before.seconds
    ]
    return float(np.median(rates)) * pairs / steps_per_epoch if rates else 0.0


PICTURES = 4
"""How many sentences of the validation set have a picture of where the decoder looked."""


def write_attention(saved: Saved, texts: Bitext, folder: Path) -> None:
    """``attention-N.png``: where the decoder looked while it translated sentences of the validation set."""
    source_words, target_words = saved.vocabularies
    for number, text in enumerate(texts.sources[:PICTURES], start=1):
        source = source_words.encode(text)
        target = target_words.encode(translate_all(saved, [text], Search())[0])
        lengths = np.array([len(source)])
        (weights,) = alignments(saved.model, saved.params, source[None], lengths, target[None])
        names = source_words.pieces(source), target_words.pieces(target)
        report.draw_attention(np.asarray(weights), *names, folder / f"attention-{number}.png")


def load_run(path: Path) -> tuple[Config, Saved]:
    """Read back the best parameters of a run.

    Raises:
      RecordError: there is no run, or it has not finished.
    """
    config, saved = finished_run(path, "machine_translation", Config)
    vocabularies = Vocabularies.load(path)
    model = make_model(config, vocabularies)
    params = checkpoint.restore(saved, jax.eval_shape(model.init, jax.random.key(0)))
    return config, Saved(vocabularies, model, params)


def read_figures(run: Path) -> dict[str, float]:
    """All figures of a run.

    Raises:
      RecordError: it has not finished.
    """
    return report.read_figures(output_of(run, FIGURES))


def translate_lines(arguments: Sequence[str]) -> None:
    """``translate --run RUN``: translate lines of standard input as they come."""

    def write(
        run: Path, beams: int = 5, length_penalty: float | None = None, coverage_penalty: float = 0.0
    ) -> None:
        """Translate each line of standard input, and write its translation at once.

        Args:
            run: the run's folder.
            beams: hypotheses that are kept; 1 for greedy decoding.
            length_penalty: alpha of Wu et al.: the higher, the longer translations may be; by default what
                was best on the validation set.
            coverage_penalty: beta of Wu et al.: the higher, the more of the source must have been looked at.
        """
        if beams < 1 or (length_penalty or 0) < 0 or coverage_penalty < 0:
            raise train.ConfigError("beams must be at least 1, and the penalties must not be negative.")
        _, saved = load_run(run)
        if length_penalty is None:
            length_penalty = read_figures(run)["length_penalty"]
        parallel.keep_memory()
        search = Search(beams, length_penalty, coverage_penalty)
        for line in sys.stdin.buffer:
            text = line.decode("utf-8", errors="replace")
            print(*translate_all(saved, [text], search, rows=1), flush=True)

    tyro.cli(write, prog="python -m experiments machine_translation translate", args=arguments)


def compare(arguments: Sequence[str]) -> None:
    """``compare --runs A B``: BLEU by the length of sentences, of several runs in one picture."""

    def write(
        runs: tuple[Path, ...], output: Path = Path("bleu-by-length.png"), test: str = "test2016"
    ) -> None:
        """Draw BLEU by the length of the source.

        Args:
            runs: folders of finished runs.
            output: the picture to write.
            test: the test set.
        """
        found = {}
        for path in runs:
            config = config_of(path, "machine_translation", Config)
            found[f"{config.pair}, attention {config.attention}"] = read_figures(path)
        report.draw_lengths(found, test, output)
        print(output)

    tyro.cli(write, prog="python -m experiments machine_translation compare", args=arguments)


COMMANDS = {"translate": translate_lines, "compare": compare}
"""What `python -m experiments machine_translation NAME` does beside training."""

BENCHMARK = Benchmark(
    title="Machine translation",
    metric="test2016_bleu",
    unit="BLEU",
    group_by="pair",
    groups={
        "en-de": "English to German",
        "de-en": "German to English",
        "en-fr": "English to French",
        "fr-en": "French to English",
        "en-es": "English to Spanish",
        "es-en": "Spanish to English",
    },
    published=(Published("en-de", "attention, text only", 38.1, "Caglayan et al. 2017", "en-de-attention"),),
    note="BLEU of beam search by sacrebleu on text as it is written (signature "
    f"`{report.SIGNATURE}`); chrF and the length ratios are in the records. Caglayan et al. "
    "(arXiv:1707.04481) count lower-case words, not text as it is written, which gives several points more: "
    "their figure cannot be compared with ours point by point. Models without attention have the form of "
    "Sutskever et al. 2014. Attention is for long sentences (Bahdanau et al. 2015): the second table has "
    "BLEU by the words of the source.",
    details={
        "test2016_greedy_bleu": "2016, greedy",
        "test2017_bleu": "2017, beam",
        "test2017_greedy_bleu": "2017, greedy",
        **{
            f"test2016_bleu_of_{shortest}_to_{longest}_words": f"2016, {shortest} to {longest} words"
            for shortest, longest in report.LENGTHS
        },
        "train_sentences_per_second": "sentences a second, training",
        "beam_sentences_per_second": "by beam search",
        "greedy_sentences_per_second": "greedily",
    },
)
