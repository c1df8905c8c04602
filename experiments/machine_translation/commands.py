"""The subcommands: translate, evaluate, compare."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from experiments.common import models, terminal
from experiments.machine_translation import report
from experiments.machine_translation.config import Config
from experiments.machine_translation.data import load_corpus
from experiments.machine_translation.decode import load_search, translate_all
from experiments.machine_translation.task import load_model
from lstmjax.training import parallel
from lstmjax.training.record import Run

NAME = "machine_translation"


def translate_lines(arguments: Sequence[str]) -> None:
    """``translate``: translate lines of standard input one by one."""

    def write(
        source: models.Chosen,
        beams: int | None = None,
        length_penalty: float | None = None,
        coverage_penalty: float | None = None,
    ) -> None:
        """Translate each line of standard input, and write its translation at once.

        Args:
            source: the model; by default the kept one from English into German.
            beams: beam size; 1 for greedy decoding. By default this and the penalties are those that were
                chosen on the validation set.
            length_penalty: alpha of Wu et al.: higher values favour longer translations.
            coverage_penalty: beta of Wu et al.: higher values favour attention over the whole source.
        """
        options: dict[str, Any] = {
            "beams": beams,
            "length_penalty": length_penalty,
            "coverage_penalty": coverage_penalty,
        }
        given = {name: value for name, value in options.items() if value is not None}
        folder = source.folder(NAME, default="en-de-attention")
        search, saved = dataclasses.replace(load_search(folder), **given), load_model(folder)
        parallel.keep_memory()
        for text in terminal.lines_of(None):
            print(*translate_all(saved, [text], search, rows=1), flush=True)

    tyro.cli(write, prog="python -m experiments machine_translation translate", args=arguments)


def evaluate(arguments: Sequence[str]) -> None:
    """``evaluate``: test a saved model, and add metrics that its record does not have yet."""

    def write(
        source: models.Chosen,
        out: Path = Path("hypotheses"),
        record: bool = False,
        data_dir: Path | None = None,
    ) -> None:
        """Translate the test sets by beam search, write the translations, and print the metrics.

        Args:
            source: the model; by default the kept one from English into German.
            out: the folder for the translations, a line for each sentence.
            record: add new metrics to the record of the kept model; the others must be as recorded.
            data_dir: folder of the data sets.
        """
        folder = source.folder(NAME, default="en-de-attention")
        saved, search = load_model(folder), load_search(folder)
        parallel.keep_memory()
        out.mkdir(parents=True, exist_ok=True)
        config = dataclasses.replace(models.config_of(folder, Config), data_dir=data_dir)
        found: dict[str, float] = {}
        for name, texts in load_corpus(config).tests.items():
            translations = report.Translations(*texts, translate_all(saved, texts.sources, search))
            report.write_hypotheses(translations, out / f"{name}-hypotheses.txt")
            found |= report.figures(name, translations)
        for name, value in found.items():
            print(f"{name:<36} {value:8.3f}")
        if record:
            print(models.add_metrics(folder, NAME, found, tolerance=TOLERANCE))

    tyro.cli(write, prog="python -m experiments machine_translation evaluate", args=arguments)


TOLERANCE = 0.3
"""The most that a metric may differ from that of the record: the parameters of a kept model are rounded."""


def compare(arguments: Sequence[str]) -> None:
    """``compare --runs A B``: plot BLEU by sentence length, several runs in one plot."""

    def write(
        runs: tuple[Path, ...], output: Path = Path("bleu-by-length.png"), test: str = "test2016"
    ) -> None:
        """Plot BLEU by the length of the source.

        Args:
            runs: folders of finished runs.
            output: the image file to write.
            test: the test set.
        """
        found = {}
        for path in runs:
            config = models.config_of(models.of_run(path, NAME), Config)
            found[f"{config.pair}, attention {config.attention}"] = Run.open(path).figures()
        report.draw_lengths(found, test, output)
        print(output)

    tyro.cli(write, prog="python -m experiments machine_translation compare", args=arguments)


COMMANDS = {"translate": translate_lines, "evaluate": evaluate, "compare": compare}
"""The subcommands `python -m experiments machine_translation NAME`."""
