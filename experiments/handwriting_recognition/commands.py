"""The subcommands: recognise a user's inks, test language models and adaptation, draw errors."""

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from experiments.common import models
from experiments.common.command_line import from_mapping, open_run
from experiments.datasets.files import DataError, read_bytes, reading
from experiments.datasets.ink import Ink
from experiments.handwriting_recognition import evaluation, ink_files, language, pictures
from experiments.handwriting_recognition.adaptation import adapt
from experiments.handwriting_recognition.config import Config
from experiments.handwriting_recognition.data import SOURCES, make_batches
from experiments.handwriting_recognition.reading import Beam, errors, logits_of, search
from experiments.handwriting_recognition.task import Saved, load_model
from lstmjax import training

EXPERIMENT = "handwriting_recognition"
PROGRAM = f"python -m experiments {EXPERIMENT}"
LONGEST_PATH = 4000
"""Points of the longest path that is read, that of a word of several hundred letters."""


def recognise(arguments: Sequence[str]) -> None:
    """``recognise FILE``: what is written in an InkML, UNIPEN or JSON file."""

    def write(
        source: models.Chosen,
        file: Annotated[Path, tyro.conf.Positional],
        adapt: Path | None = None,
        words: Path | None = None,
        alternatives: int = 1,
        y: ink_files.Direction | None = None,
        picture: Path | None = None,
    ) -> None:
        """Print number, text and score in nats of each ink of a file, and its label if the file gives one.

        Args:
            source: by default words-blstm reads words; pendigits-blstm, for one, reads digits.
            file: InkML, the text format of UNIPEN, or JSON: [[[x, y], ...], ...], a list of strokes.
            adapt: a file of inks with labels by the same writer, to which the network is fine-tuned first.
            words: a list of words, one a line, in place of all texts.
            alternatives: how many texts of each ink.
            y: where larger y lie; by default up in UNIPEN and down in other files.
            picture: an image file to draw the inks into, with the place of each letter.
        """
        saved = load_model(source.folder(EXPERIMENT, "words-blstm"))
        inks = ink_files.read(file, y)
        if adapt is not None:
            saved = _adapted(saved, ink_files.read(adapt, y))
        found = read_inks(saved, inks, None if words is None else _words(words), max(alternatives, 1))
        for number, (ink, texts) in enumerate(zip(inks, found, strict=True), start=1):
            for text, score in texts[: max(alternatives, 1)] or [("", -np.inf)]:
                print("\t".join([str(number), text, f"{score:.2f}", *([ink.label] if ink.label else [])]))
        if all(ink.label for ink in inks):
            rates = errors([ink.label for ink in inks], [texts[0][0] if texts else "" for texts in found])
            print(f"errors: {rates.cer:.1%} of characters, {rates.wer:.1%} of inks", file=sys.stderr)
        if picture is not None:
            if SOURCES[saved.config.task].whole:
                raise training.ConfigError("--picture is of the letters of words: take a model of words.")
            best = [texts[0][0] if texts else "" for texts in found]
            aligned = [pictures.align(saved, ink, text) for ink, text in zip(inks, best, strict=True)]
            pictures.draw(inks, aligned, picture)

    tyro.cli(write, prog=f"{PROGRAM} recognise", args=arguments)


def _adapted(saved: Saved, inks: Sequence[Ink]) -> Saved:
    print(f"adapting to {len(inks)} inks", file=sys.stderr)
    return adapt(saved, inks)


def _words(path: Path) -> list[str]:
    with reading(path):
        words = read_bytes(path).decode("utf-8-sig").split()
    if not words:
        raise DataError(f"{path} has no words.")
    return words


def read_inks(
    saved: Saved, inks: Sequence[Ink], words: Iterable[str] | None = None, alternatives: int = 1
) -> list[list[tuple[str, float]]]:
    """The texts of inks, best first, with their scores in nats.

    Raises:
      DataError: an ink is longer than a line, or the words have letters that the network does not know.
    """
    source = SOURCES[saved.config.task]
    unlabelled = [ink._replace(label="") for ink in inks]  # labels may have letters that it does not know
    batches = make_batches(saved.config, unlabelled, buckets=1)
    for number, path in enumerate(batches.sources, start=1):
        if len(path) > LONGEST_PATH:
            raise DataError(f"ink {number} is too long for a word: give each word as an ink of its own.")
    if source.whole:
        if words is not None:
            raise training.ConfigError("--words is for a model of words, not for one of characters.")
        found = []
        for batch in batches.once():
            scores = np.asarray(jax.nn.log_softmax(logits_of(saved.model, saved.params, batch.source)))
            order = (-scores).argsort(axis=1)[:, :alternatives]
            found += [
                (item, [(source.letters[each], float(row[each])) for each in best])
                for item, row, best in zip(batch.items, scores, order, strict=True)
                if item >= 0
            ]
        return [texts for _, texts in sorted(found, key=lambda pair: pair[0])]
    listed = None
    if words is not None:
        words = list(words)
        if unknown := sorted(set("".join(words)) - set(source.letters)):
            raise DataError(f"the words have characters that the network does not know: {unknown}.")
        listed = language.word_list(source, set(words))
    beam = Beam(beams=max(16, alternatives), language=listed)
    return search(source, saved.model, saved.params, batches, beam)


def test_language(arguments: Sequence[str]) -> None:
    """``language``: the test split with prefix beam search and language models."""

    def test(
        source: models.Chosen, record: bool = False, limit: int = 0, data_dir: Path | None = None
    ) -> None:
        """Choose weights on the validation split, and print error rates of the test split.

        Args:
            source: a model of words.
            record: also add the figures to the record of the kept model.
            limit: read only so many words of each split; 0 for all.
            data_dir: folder of the data sets.
        """
        folder = source.folder(EXPERIMENT, "words-blstm")
        saved = load_model(folder)
        if SOURCES[saved.config.task].whole:
            raise training.ConfigError(f"the model in {folder} reads characters, and not words.")
        found = evaluation.with_language(saved, data_dir, limit)
        _show(found)
        if record and not limit:
            print(models.add_metrics(folder, EXPERIMENT, found, tolerance=1e-3))

    tyro.cli(test, prog=f"{PROGRAM} language", args=arguments)


def test_adaptation(arguments: Sequence[str]) -> None:
    """``adaptation``: error rates of test writers before and after fine-tuning to 50 of their words."""

    def test(
        source: models.Chosen, record: bool = False, writers: int = 0, data_dir: Path | None = None
    ) -> None:
        """Print error rates of the words of each writer that are not adapted to.

        Args:
            source: a model of words.
            record: also add the means to the record of the kept model.
            writers: only so many writers; 0 for all with at least 100 words.
            data_dir: folder of the data sets.
        """
        folder = source.folder(EXPERIMENT, "words-blstm")
        found = evaluation.with_adaptation(load_model(folder), data_dir, writers)
        _show(found)
        if record and not writers:
            print(models.add_metrics(folder, EXPERIMENT, found, tolerance=1e-3))

    tyro.cli(test, prog=f"{PROGRAM} adaptation", args=arguments)


def _show(figures: dict[str, float]) -> None:
    print("\n".join(f"{name} {value:.4g}" for name, value in figures.items()))


def draw(arguments: Sequence[str]) -> None:
    """``pictures``: words of the test split that were misread, with the alignment under the ink."""

    def write(
        source: models.Chosen,
        out: Path = models.RESULTS / EXPERIMENT / "pictures" / "words-blstm",
        data_dir: Path | None = None,
    ) -> None:
        """Draw ``errors.png``, of twelve writers' first misread words, and ``words.png``, of right ones.

        Args:
            source: a model of words.
            out: the folder to write to.
            data_dir: folder of the data sets.
        """
        saved = load_model(source.folder(EXPERIMENT, "words-blstm"))
        test = evaluation.load_parts(saved, data_dir).test
        chosen = [
            ink for own in evaluation.by_writer(test).values() for ink in own[:20] if len(ink.label) > 2
        ]
        out.mkdir(parents=True, exist_ok=True)
        for name, inks in evaluation.right_and_wrong(saved, chosen).items():
            aligned = [pictures.align(saved, ink, text) for ink, text in inks[:12]]
            pictures.draw([ink for ink, _ in inks[:12]], aligned, out / name)
        print(out)

    tyro.cli(write, prog=f"{PROGRAM} pictures", args=arguments)


def finish_early(arguments: Sequence[str]) -> None:
    """``finish RUN``: test the best parameters of a run that was stopped before its last step."""

    def finish(run: Annotated[Path, tyro.conf.Positional], data_dir: Path | None = None) -> None:
        """Test the best parameters of the latest checkpoint; the record's ``steps`` says how far it came.

        Args:
            run: the folder of the run, which cannot be resumed afterwards.
            data_dir: folder of the data sets.
        """
        from experiments import handwriting_recognition as package  # noqa: PLC0415

        opened = open_run(run, EXPERIMENT)
        steps = [int(path.stem.split("-")[1]) for path in (run / "checkpoints").glob("step-*.safetensors")]
        if opened.finished or not steps:
            raise training.ConfigError(f"{run} has finished, or has no checkpoint to test.")
        config = dataclasses.replace(from_mapping(Config, opened.config), data_dir=data_dir)
        package.run(config, opened, max(steps))

    tyro.cli(finish, prog=f"{PROGRAM} finish", args=arguments)


COMMANDS = {
    "finish": finish_early,
    "recognise": recognise,
    "language": test_language,
    "adaptation": test_adaptation,
    "pictures": draw,
}
"""The subcommands `python -m experiments handwriting_recognition NAME`."""
