"""The subcommands write, samples and closed-loop."""

from collections.abc import Sequence
from pathlib import Path

import jax
import tyro

from experiments import datasets
from experiments.common import models
from experiments.handwriting_recognition import task as recognition
from experiments.handwriting_recognition.writing import closed_loop, pictures, samples, styles
from experiments.handwriting_recognition.writing.lines import write_text
from experiments.handwriting_recognition.writing.page import loop_table
from experiments.handwriting_recognition.writing.task import load_model
from lstmjax.training import ConfigError

EXPERIMENT = "handwriting_recognition"

WRITER, READER = "words-synthesis", "words-blstm"
"""Labels of the kept networks."""


def write(arguments: Sequence[str]) -> None:
    """``write``: write a text by hand."""

    def draw(
        text: tyro.conf.Positional[str],
        source: models.Chosen,
        style: str = "0",
        bias: float = 0.5,
        seed: int = 1,
        out: Path = Path("written"),
    ) -> None:
        """Write a text by hand, as SVG and PNG.

        Args:
            text: letters a to z and A to Z, and spaces.
            source: the network; by default the kept one.
            style: in whose hand: a number from 1 for a real writer of UNIPEN, or a file (JSON, InkML, UNIPEN)
                with the ink of a word and its text; 0 for a hand that the network makes up.
            bias: 0 writes as people do; more writes neater words.
            seed: random seed.
            out: the files to write, without their suffixes.
        """
        check_bias(bias)
        saved = load_model(source.folder(EXPERIMENT, default=WRITER))
        hand = styles.find(saved.folder, style, saved.config.tolerance)
        lines, cut = write_text(saved, text, jax.random.key(seed), bias, hand)
        out.parent.mkdir(parents=True, exist_ok=True)
        pictures.draw_lines(lines, out)
        for word in cut:
            print(f"{word}: the network did not come to an end; another --seed may.")
        print(f"{out.with_suffix('.svg')} {out.with_suffix('.png')}")

    tyro.cli(draw, prog=f"python -m experiments {EXPERIMENT} write", args=arguments)


def check_bias(bias: float) -> None:
    """Raise ConfigError unless a bias is in its range."""
    if not 0 <= bias <= 10:
        raise ConfigError(f"--bias must be from 0 to 10, got {bias}.")


def draw_samples(arguments: Sequence[str]) -> None:
    """``samples``: the pictures of a network's writing that a run ends with."""

    def draw(source: models.Chosen, out: Path = Path("samples"), seed: int = 1) -> None:
        """Draw a line by bias and by style, and a word with the places of the window.

        Args:
            source: the network; by default the kept one.
            out: the folder to write to.
            seed: random seed.
        """
        saved = load_model(source.folder(EXPERIMENT, default=WRITER))
        out.mkdir(parents=True, exist_ok=True)
        samples.draw(saved, out, seed)
        print(out)

    tyro.cli(draw, prog=f"python -m experiments {EXPERIMENT} samples", args=arguments)


def loop(arguments: Sequence[str]) -> None:
    """``closed-loop``: read real ink and written ink of the same texts."""

    def measure(
        writer: str = WRITER,
        reader: str = READER,
        words: int = 512,
        biases: tuple[float, ...] = (0.0, 0.5, 1.0),
        seed: int = 1,
        out: Path = Path("closed-loop"),
        record: bool = False,
        data_dir: Path | None = None,
    ) -> None:
        """Read words of the test split, as people and as a network wrote them.

        Args:
            writer: label of the network that writes.
            reader: label of the network that reads.
            words: number of words.
            biases: those that are tried, see ``write``.
            seed: random seed, of the choice of words as well.
            out: the picture to write, without its suffixes.
            record: add the error rates to the record of the network that writes.
            data_dir: folder of the data sets.
        """
        for bias in biases:
            check_bias(bias)
        folder = models.kept(EXPERIMENT, writer)
        saved, recogniser = load_model(folder), recognition.load_model(models.kept(EXPERIMENT, reader))
        parts = datasets.load("unipen-words", data_dir)
        chosen = closed_loop.choose(parts.test, words, seed)
        found = closed_loop.compare(saved, recogniser, chosen, biases, seed)
        cers = {name: each.errors.cer for name, each in found.items()}
        print(loop_table(cers))
        some = [each.inks[:6] for each in found.values()]
        out.parent.mkdir(parents=True, exist_ok=True)
        pictures.draw_lines(some, out, [name.replace("_", ", bias ") for name in found])
        if record:
            figures = {f"closed_loop_cer_{name}": cer for name, cer in cers.items()}
            figures |= {"closed_loop_words": len(chosen)} | closed_loop.deviations(parts.train, saved.config)
            print(models.add_metrics(folder, EXPERIMENT, figures, tolerance=0.02))

    tyro.cli(measure, prog=f"python -m experiments {EXPERIMENT} closed-loop", args=arguments)


COMMANDS = {"write": write, "samples": draw_samples, "closed-loop": loop}
