"""Protein chains and the secondary structure of their residues, with and without profiles.

Chains / residues whose label counts:

    name     train                valid            test                   states  profile
    nr25     5,278 / 998,216      256 / 45,858     514 / 95,887           eight   of related sequences
    flip     9,712 / 2,319,963    1,080 / 262,853  see below (CB513)      three   none
    cb6133   5,278                256              514 (CB513)            eight   see `cb6133.py`

`nr25` are chains of the structure database of ProMod3 (Studer et al. 2021, doi:10.1371/journal.pcbi.1008667),
culled at 25 per cent identity. Licence: Apache-2.0. The split is not a published one: the chains differ from
those of `cb6133`, only their number is the same, so results are not comparable with those of the literature.
The splits are not entirely unrelated: some chains of test have a relative in train or valid by `overlap.py`,
and none was removed; every run reports their number, and the accuracy on the other chains. Every residue is
resolved and standard. Each has a profile that sums to 1 but for rounding to 1/255; the profiles of 82 chains
without known relatives are the one-hot sequence.

`flip` are the chains of NetSurfP-2.0 (Klausen et al. 2019, doi:10.1002/prot.25674) in the split of FLIP
(Dallago et al. 2021). Licence: AFL-3.0, according to FLIP. Labels of unresolved residues (6 per cent; the
file says C) do not count. The test split of FLIP is NEW364, newer chains (Elnaggar et al. 2021,
arXiv:2007.06225); the one here is CB513 (Cuff & Barton 1999) as NetSurfP-2.0 has it and ProtTrans packs it,
CC0: 511 rows, each a domain, marked by `cb513_mask`, in a whole chain (432 chains, 60 of them more than once,
with other domains). Residues count if in the domain and resolved (`disorder` is 1): 83,427 residues.
Two rows without such a residue are left out, and so are those whose chain overlaps with one of train or valid
at 30 per cent identity or more (`overlap.py`): such chains exist, some of them identical, though the
publishers removed those above 25 per cent. `flip_and_cb513` returns them with their overlaps.

The eight states are DSSP's (Kabsch & Sander 1983). There are several conventions for the reduction to three
states; the one here, `REDUCTION`, is that of all 144,011 residues in the CSV of CB513, which has both.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.datasets import Splits
from experiments.datasets.arrays import bounds_of, check_arrays, read_arrays
from experiments.datasets.chains import AMINO_ACIDS, REDUCTION, STATES3, STATES8, Chain
from experiments.datasets.files import (
    DataError,
    DataFile,
    data_folder,
    fetch,
    member,
    read_text,
    reading,
    unarchive,
    unknown_name,
)

NAMES = ("nr25", "flip")
"""The names of the data sets of this module."""


NR25 = DataFile(
    "protein",
    "promod3_nr25.npz",
    "https://git.scicore.unibas.ch/schwede/ProMod3",
    "f8eb1caf31dc866f08d9e9e3246a9db2f1837fb83d1a5c0d907d2dbab7b034c8",
)
"""An extract of the database in that repository; the extract itself is not published."""


FLIP = DataFile(
    "protein",
    "flip_secondary_structure.zip",
    "https://github.com/J-SNACKKB/FLIP/raw/main/splits/secondary_structure/splits.zip",
    "2e9bbbfd18a055bcac7edd4e059a6bf4bb35ca3ad8f8fa4fc3106422652a4726",
)


CB513 = DataFile(
    "protein",
    "CB513_HHblits.csv",
    "https://www.dropbox.com/s/9mat2fqqkcvdr67/CB513_HHblits.csv?dl=1",
    "829e357259fd132e945af4ea4ffa4233f135e886b749a2fc5111b41102537afc",
    xz="7931683109ad1622965d9cd7fd687e2b38b7be96632f1ac48faea755df042bd4",
)
"""The file that https://github.com/agemagician/ProtTrans names; it may also be in its folder packed by xz."""


class Dropped(NamedTuple):
    """A chain that was removed from a test set, and why."""

    chain: Chain
    """The complete chain."""
    training: str
    """The id of the closest chain of train and valid."""
    identity: float
    """Identical / aligned residues."""
    length: int
    """Aligned residues."""
    kind: str
    """``exact``, ``contained`` or ``aligned``: see `overlap.Overlap`."""


def load(name: str, data_dir: str | Path | None = None) -> Splits[Chain]:
    """Load the chains of `name`: nr25 or flip.

    Raises:
        DataError: the name is unknown, or a file is missing, damaged or holds something else.
    """
    if name == "nr25":
        return nr25(data_dir)
    if name == "flip":
        return flip_and_cb513(data_dir)[0]
    raise unknown_name("set of proteins", name, NAMES)


def nr25(data_dir: str | Path | None = None) -> Splits[Chain]:
    """Load the chains of ProMod3's structure database.

    Raises:
        DataError: the file is missing, damaged or holds something else.
    """
    folder = data_folder(data_dir) / NR25.dataset
    if not (folder / NR25.name).exists():
        raise DataError(
            f"{NR25.name} is not in {folder}, and it cannot be downloaded: it is an extract, not published "
            f"itself, of the structure database in {NR25.url}. Put the file there, or take flip or cb6133."
        )
    return chains_of_arrays(read_arrays(fetch(NR25, data_dir)), NR25.name)


def chains_of_arrays(arrays: Mapping[str, np.ndarray], name: str) -> Splits[Chain]:
    """The chains of arrays in which all residues are concatenated.

    Args:
        arrays: ``ids`` and ``split`` (train, valid or test) [chains]; ``offsets`` [chains + 1], where they
            begin and end; ASCII codes ``sequence`` and ``dssp8`` uint8 [residues]; ``profile`` uint8
            [residues, 20], in units of 1/255.
        name: name of the file, for errors.

    Raises:
        DataError: an array is missing or does not match the others, or a letter is invalid.
    """
    check_arrays(
        arrays,
        {
            **{"ids": ("U", 1), "split": ("U", 1), "offsets": ("i", 1)},
            **{"sequence": ("u", 1), "dssp8": ("u", 1), "profile": ("u", 2)},
        },
        name,
    )
    sequence, states = (arrays[each].tobytes().decode("latin-1") for each in ("sequence", "dssp8"))
    _check_letters(sequence, AMINO_ACIDS + "X", f"{name}, sequence")
    _check_letters(states, STATES8, f"{name}, dssp8")
    ids, split = arrays["ids"].tolist(), arrays["split"].tolist()
    shapes = (len(states), *arrays["profile"].shape), len(split), len(arrays["offsets"])
    if shapes != ((len(sequence), len(sequence), len(AMINO_ACIDS)), len(ids), len(ids) + 1):
        raise DataError(f"{name}: the arrays do not fit {len(ids)} chains of {len(sequence)} residues.")
    bounds = bounds_of(arrays["offsets"], len(sequence), name)
    profile = arrays["profile"].astype(np.float32) / np.float32(255)
    parts: dict[str, list[Chain]] = {"train": [], "valid": [], "test": []}
    for place, (chain, part) in enumerate(zip(ids, split, strict=True)):
        if part not in parts:
            raise DataError(f"{name}: the part of chain {chain} is {part!r}, not train, valid or test.")
        where = slice(bounds[place], bounds[place + 1])
        counts = np.ones(where.stop - where.start, bool)
        parts[part].append(Chain(chain, sequence[where], states[where], counts, profile[where]))
    return Splits(*map(tuple, parts.values()))


def flip(data_dir: str | Path | None = None) -> Splits[Chain]:
    """Load the chains of FLIP in its own splits, of which the test split is NEW364.

    Raises:
        DataError: the file is missing, damaged or holds something else.
    """
    path = fetch(FLIP, data_dir)
    files = unarchive(path, r"splits/\w+\.fasta")
    with reading(path):
        sequences, labels, mask = (
            member(files, f"splits/{part}.fasta").decode("ascii") for part in ("sequences", "sampled", "mask")
        )
    return chains_of_fasta(sequences, labels, mask, FLIP.name)


def chains_of_fasta(sequences: str, labels: str, mask: str, name: str) -> Splits[Chain]:
    """The chains of three FASTA texts: amino acids, states with the split in the header line, and a 0/1 mask.

    Raises:
        DataError: a chain is not in all of them, or its lengths differ, or it has other letters.
    """
    heads = _fasta(labels, name)
    masks, residues = (
        {head.partition(" ")[0]: letters for head, letters in _fasta(text, name).items()}
        for text in (mask, sequences)
    )
    parts: dict[str, list[Chain]] = {"train": [], "valid": [], "test": []}
    for head, states in heads.items():
        matched = re.fullmatch(r"(\S{1,40}) SET=(train|test) VALIDATION=(True|False)", head)
        if matched is None:
            raise DataError(
                f"{name}: the head line {head[:80]!r} does not say to which part its chain belongs."
            )
        chain = matched[1]
        if {len(each.get(chain, "")) for each in (residues, masks)} != {len(states)}:
            raise DataError(f"{name}: chain {chain} is not of one length in its sequence, labels and mask.")
        _check_letters(states, STATES3, f"{name}, states of {chain}")
        _check_letters(masks[chain], "01", f"{name}, mask of {chain}")
        valid = np.array([each == "1" for each in masks[chain]])
        part = "valid" if matched[3] == "True" else matched[2]
        parts[part].append(Chain(chain, _standard(residues[chain], name), states, valid, None))
    return Splits(*map(tuple, parts.values()))


def cb513(data_dir: str | Path | None = None) -> tuple[Chain, ...]:
    """Load all rows of CB513, in three states.

    Raises:
        DataError: the file is missing, damaged or holds something else.
    """
    return chains_of_csv(read_text(CB513, data_dir), CB513.name)


def chains_of_csv(text: str, name: str) -> tuple[Chain, ...]:
    """The chains of a CSV table: amino acids, three states, eight states, resolved, evaluated.

    Raises:
        DataError: the columns are not these, differ in length or have other letters, or the three states
            are not the `REDUCTION` of the eight.
    """
    lines = text.splitlines()
    if not lines or re.split(r",\s*", lines[0]) != ["input", "dssp3", "dssp8", "disorder", "cb513_mask"]:
        raise DataError(f"{name} does not begin with the names of its five columns: {text[:60]!r}.")
    chains = []
    for row, line in enumerate(lines[1:]):
        columns = [column.split() for column in line.split(",")]
        if len(columns) != 5 or len(set(map(len, columns))) != 1 or max(map(len, columns[0]), default=0) > 1:
            raise DataError(f"{name}, line {row + 2}: not five columns of one length.")
        sequence, states, eight, resolved, evaluated = columns
        if [REDUCTION.get(state) for state in eight] != states:
            raise DataError(f"{name}, line {row + 2}: the three states are not those of the eight.")
        if not {*resolved, *evaluated} <= {"0.0", "1.0"}:
            raise DataError(f"{name}, line {row + 2}: a mask is neither 0.0 nor 1.0.")
        valid = (np.array(resolved) == "1.0") & (np.array(evaluated) == "1.0")
        letters = _standard("".join(sequence), name)
        chains.append(Chain(f"cb513-{row}", letters, "".join(states), valid, None))
    return tuple(chains)


def flip_and_cb513(data_dir: str | Path | None = None) -> tuple[Splits[Chain], tuple[Dropped, ...]]:
    """Load train and valid of FLIP with CB513 as the test split, and the chains dropped from CB513.

    Raises:
        DataError: a file is missing, damaged or holds something else.
    """
    from experiments.datasets.overlap import overlaps  # noqa: PLC0415 (only this set needs HMMER)

    train, valid, _ = flip(data_dir)
    tests = [chain for chain in cb513(data_dir) if chain.valid.any()]
    known = (*train, *valid)
    found = overlaps([chain.sequence for chain in tests], [chain.sequence for chain in known])
    dropped = tuple(
        Dropped(tests[each.test], known[each.training].id, each.identity, each.length, each.kind)
        for each in found
    )
    out = {each.chain.id for each in dropped}
    return Splits(train, valid, tuple(chain for chain in tests if chain.id not in out)), dropped


def _fasta(text: str, name: str) -> dict[str, str]:
    """The text after each header line, by header line."""
    records = [record.partition("\n") for record in f"\n{text}".split("\n>")[1:]]
    found = {head.strip(): "".join(lines.split()) for head, _, lines in records}
    if len(found) < len(records) or not found:
        raise DataError(f"{name}: a FASTA text in it has no chain, or one of them twice.")
    return found


def _standard(sequence: str, name: str) -> str:
    """The sequence with X in place of amino acids that are not standard."""
    if not re.fullmatch("[A-Z]+", sequence):
        raise DataError(f"{name}: a sequence is empty or has other signs than A to Z: {sequence[:60]!r}.")
    return re.sub(f"[^{AMINO_ACIDS}]", "X", sequence)


def _check_letters(text: str, letters: str, where: str) -> None:
    other = sorted(set(text) - set(letters))
    if other:
        raise DataError(f"{where}: {', '.join(map(repr, other[:4]))} where only {letters} may stand.")
