"""The subcommand predict, for a user's own sequences."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from experiments.common import models, terminal
from experiments.protein_structure import fasta, profiles, residues
from experiments.protein_structure.pictures import draw_chain
from experiments.protein_structure.task import STATES, load_model
from lstmjax import training


def predict(arguments: Sequence[str]) -> None:
    """``predict FILE``: the structure of sequences in a FASTA file, as tables and plots."""

    def write(
        source: models.Chosen,
        file: Annotated[Path, tyro.conf.Positional],
        alignments: Path | None = None,
        pictures: Path | None = None,
    ) -> None:
        """Write the states of each residue with their probabilities to standard output.

        Args:
            source: by default a kept model: of sequences alone, or, with alignments, of profiles.
            file: sequences in FASTA format; - for standard input.
            alignments: for a model of profiles, a folder with <id>.a3m of each sequence, as hhblits -oa3m
                makes them. Characters other than letters, digits, dots and hyphens are _ in file names.
            pictures: a folder for a plot of each sequence.
        """
        default = "nr25-sequence" if alignments is None else "nr25-blstm"
        folder = source.folder("protein_structure", default)
        saved = load_model(folder)
        if (saved.config.inputs == "profile") != (alignments is not None):
            wanted = "profiles: give" if alignments is None else "sequences alone: leave out"
            raise training.ConfigError(f"the model in {folder} looks at {wanted} --alignments.")
        if alignments is not None and saved.config.dataset == "cb6133":
            raise training.ConfigError(
                f"the model in {folder} looks at scores of PSI-BLAST, which are not in an alignment: "
                "take one of --inputs sequence, or of another data set."
            )
        described = list(_described(file, alignments))
        for number, (record, features) in enumerate(described, start=1):
            for remark in record.remarks:
                print(f"{record.id}: {remark}", file=sys.stderr)
            probabilities = residues.probabilities(saved.model, saved.params, features)
            states = STATES[saved.config.dataset]
            fasta.write_table(record, probabilities, states, sys.stdout)
            if pictures is not None:
                pictures.mkdir(parents=True, exist_ok=True)
                path = pictures / f"{number:03d}-{fasta.file_name(record.id)}.png"
                draw_chain(record.id, record.sequence, probabilities, states, path)
                print(f"{record.id}: {path}", file=sys.stderr)

    tyro.cli(write, prog="python -m experiments protein_structure predict", args=arguments)


def _described(file: Path, alignments: Path | None) -> Iterator[tuple[fasta.Record, np.ndarray]]:
    """The records of a file, with their features."""
    for record in fasta.read(terminal.lines_of(file), str(file)):
        profile = None
        if alignments is not None:
            path = alignments / f"{fasta.file_name(record.id)}.a3m"
            profile = profiles.read(terminal.lines_of(path), str(path), record.sequence)
        yield record, residues.features(record.sequence, profile)


COMMANDS = {"predict": predict}
"""The subcommands `python -m experiments protein_structure NAME`."""
