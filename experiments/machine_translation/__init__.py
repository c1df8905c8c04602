r"""Machine translation: captions of photographs from English into German, and other language pairs.

    python -m experiments machine_translation                            English to German, Multi30k
    python -m experiments machine_translation --pair de-en               and back
    python -m experiments machine_translation --attention none           as Sutskever et al.
    python -m experiments machine_translation --dataset tatoeba --pair en-es
    python -m experiments machine_translation translate --run RUN        lines of standard input
    python -m experiments machine_translation evaluate --run RUN         its test sets once more
    python -m experiments machine_translation compare --runs RUN RUN     BLEU by the length of sentences

Papers. Sutskever, Vinyals and Le 2014 (arXiv:1409.3215); Bahdanau, Cho and Bengio 2015 (arXiv:1409.0473);
Luong, Pham and Manning 2015 (arXiv:1508.04025). Data: Elliott et al. 2016 (arXiv:1605.00459).

Model. Subwords (byte pair encoding) go through a bidirectional LSTM encoder; an LSTM decoder generates the
translation subword by subword, with attention over the source in each step (`model.py`).

Loss. The cross entropy of each subword of the translation given all before it, with label smoothing: a part
of the probability is spread evenly over all subwords. ``valid_nll`` is without smoothing. The main metric is
BLEU, by sacrebleu on raw text, case and punctuation included: ``test2016_bleu`` with beam search,
``test2016_greedy_bleu`` with greedy decoding, ``test2016_lowercase_bleu`` without case.

Recipe. Adam with a cosine schedule, dropout on inputs and outputs of layers, an exponential moving average of
the parameters, batches of equally many steps whatever the sentences' length; the parameters with the best
BLEU of greedy translations of the validation set are tested once. Cost and figures: see the results page.
"""

import itertools
import time

import numpy as np

from experiments.common.experiment import Experiment
from experiments.common.learning import evaluate, finish, learn
from experiments.common.models import folder_in
from experiments.common.recipes import training_config
from experiments.machine_translation import report
from experiments.machine_translation.commands import COMMANDS
from experiments.machine_translation.config import Config, preset
from experiments.machine_translation.data import (
    Bitext,
    Corpus,
    Vocabularies,
    load_corpus,
    pair_batches,
)
from experiments.machine_translation.decode import (
    LENGTH_PENALTIES,
    Saved,
    save_search,
    translate_all,
    write_attention,
)
from experiments.machine_translation.model import (
    Search,
)
from experiments.machine_translation.page import BENCHMARK
from experiments.machine_translation.report import Translations
from experiments.machine_translation.task import make_model, make_task
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Train, translate the test sets, and write model, vocabularies, tables, plots and the summary."""
    corpus = load_corpus(config)
    vocabularies = Vocabularies.learn(config, corpus.train)
    vocabularies.save(folder_in(run.path))
    saved = Saved(vocabularies, make_model(config, vocabularies), None)
    batches = pair_batches(config, vocabularies, corpus.train, config.max_pieces)
    settings = training_config(config, batches.steps_per_epoch)
    task = make_task(config, settings, saved, batches, corpus.valid)
    learned = learn(task, settings, run, curves=CURVES)

    saved = saved._replace(params=learned.params)
    beam = choose_search(config, saved, corpus.valid)
    save_search(folder_in(run.path), beam)
    figures = learned.figures | evaluate(task, saved.params, {"valid": task.valid()})
    figures |= test(saved, beam, corpus, run)
    figures["train_sentences_per_second"] = training_rate(run, len(batches.sources), batches.steps_per_epoch)
    if config.attention != "none":
        write_attention(saved, corpus.valid, run.path)
    finish(run, figures)


CURVES = {"nll": "nats per piece", "bleu": "BLEU of greedy translations"}
"""The metrics that are plotted over the training steps, with their axis labels."""


def test(saved: Saved, beam: Search, corpus: Corpus, run: Run) -> dict[str, float]:
    """Metrics of the validation and all test sets, by beam search and greedily; writes tables and plots."""
    figures = {"length_penalty": beam.length_penalty}
    for name, texts in {"valid": corpus.valid, **corpus.tests}.items():
        for prefix, search in ((name, beam), (f"{name}_greedy", Search(beams=1))):
            start = time.monotonic()
            hypotheses = translate_all(saved, texts.sources, search)
            seconds = time.monotonic() - start
            translations = Translations(*texts, hypotheses)
            found = report.figures(prefix, translations)
            figures |= found if prefix == name else {f"{prefix}_bleu": found[f"{prefix}_bleu"]}
            # Overwritten in each round: that of the last test set, when all has been compiled, is kept.
            kind = "greedy" if search.beams == 1 else "beam"
            figures[f"{kind}_sentences_per_second"] = len(texts.sources) / seconds
            if prefix == name:
                report.write_table(translations, run.path / f"{name}-translations.txt")
                report.write_hypotheses(translations, run.path / f"{name}-hypotheses.txt")
    for name in corpus.tests:
        report.draw_lengths({"ours": figures}, name, run.path / f"{name}-bleu-by-length.png")
    return figures


def choose_search(config: Config, saved: Saved, valid: Bitext) -> Search:
    """Beam search with the config's settings and the length penalty that is best on the validation set."""
    penalties = LENGTH_PENALTIES if config.length_penalty is None else (config.length_penalty,)
    found = [Search(config.beams, penalty, config.coverage_penalty) for penalty in penalties]
    if len(found) == 1 or config.beams == 1:
        return found[0]

    def score(search: Search) -> float:
        return report.bleu(Translations(*valid, translate_all(saved, valid.sources, search)))

    return max(found, key=score)


def training_rate(run: Run, pairs: int, steps_per_epoch: int) -> float:
    """Training sentence pairs per second: the median over the intervals between progress reports."""
    entries = run.metrics("train")
    rates = [
        (after.step - before.step) / (after.seconds - before.seconds)
        for before, after in itertools.pairwise(entries)
        if after.seconds > before.seconds
    ]
    return float(np.median(rates)) * pairs / steps_per_epoch if rates else 0.0


EXPERIMENT = Experiment(__doc__, Config, run, BENCHMARK.page, preset, COMMANDS)
