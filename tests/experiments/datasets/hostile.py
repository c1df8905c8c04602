"""Damages files in many ways and parses them: ``python hostile.py COUNT [PARSER ...]``.

Each parser of the table gets its valid file with seeded mutations, of the file or of what is packed in it (so
that damage is behind checksums), and files that are made to harm. A parser must return, or raise `DataError`
with the file's name in one line, within 2 seconds of CPU time and 512 MiB. Prints a JSON object of what was
found: for each parser the number of cases and the failures, as kinds of damage with what happened.
"""

import contextlib
import functools
import gzip
import io
import json
import lzma
import os
import random
import re
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import soundfile
from PIL import Image
from scipy.io import savemat

from experiments import datasets
from experiments.common.terminal import lines_of
from experiments.common.text.subwords import Subwords
from experiments.common.text.vocabulary import Vocabulary
from experiments.datasets import (
    DataError,
    asterisk,
    babi,
    captioned,
    cb6133,
    chorales,
    files,
    flickr8k,
    mnist,
    piano_rolls,
    proteins,
    spoken_digits,
    tuxpaint,
)
from experiments.datasets import festivals as festivals_data
from experiments.handwriting_recognition import ink_files
from experiments.handwriting_recognition.writing import styles
from experiments.protein_structure import fasta, profiles
from experiments.question_answering import asking
from experiments.seasonal_sales import user_series
from experiments.speech_recognition import sound as user_sound
from experiments.speech_synthesis import alignment
from experiments.video_to_text import video_files

SECONDS, BYTES, HANGS = 2.0, 512 << 20, 30
ZEROS = 16 << 20
Contents = dict[str, bytes]


class Parser(NamedTuple):
    """How to write a small valid file, and how to parse it."""

    file: str
    contents: Contents
    pack: Callable[[Contents], bytes]
    parse: Callable[[Path], Any]
    """Of the file's path; the data folder is two above."""
    beside: Contents = {}  # noqa: RUF012
    """Further files of the folder, which are not damaged."""


# Containers


def plain(contents: Contents) -> bytes:
    (content,) = contents.values()
    return content


def gz(contents: Contents) -> bytes:
    return gzip.compress(plain(contents), 1)


def xz(contents: Contents) -> bytes:
    return lzma.compress(plain(contents), preset=0)


def as_zip(contents: Contents) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tar(contents: Contents) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def mat(contents: Contents) -> bytes:
    """A MATLAB file whose elements are packed."""
    content = plain(contents)
    packed, start = content[:128], 128
    while start < len(content):
        end = start + 8 + int.from_bytes(content[start + 4 : start + 8], "little")
        element = zlib.compress(content[start:end])
        packed, start = packed + struct.pack("<II", 15, len(element)) + element, end
    return packed


def npz(**arrays: Any) -> Contents:
    """The contents of an npz file, which is a zip."""
    found = {}
    for name, array in arrays.items():
        stream = io.BytesIO()
        np.save(stream, array)
        found[f"{name}.npy"] = stream.getvalue()
    return found


# Valid files


def rolls() -> Contents:
    draw = np.random.default_rng(0)
    parts = {}
    for part in ("train", "valid", "test"):
        cells = np.empty((1, 2), object)
        for place in range(2):
            cells[0, place] = draw.integers(0, 2, (4, 88)).astype(np.uint8)
        parts[f"{part}data"] = cells
    stream = io.BytesIO()
    savemat(stream, parts)
    return {"": stream.getvalue()}


def score() -> Contents:
    notes = "".join(
        f"<note><pitch><step>{step}</step><octave>4</octave></pitch><duration>{beats}</duration></note>"
        for step, beats in zip("CDEFGAB", (1, 2, 1, 1, 2, 1, 4), strict=True)
    )
    text = (
        '<?xml version="1.0"?><score-partwise version="3.1"><part-list><score-part id="P1"><part-name>Soprano'
        '</part-name></score-part></part-list><part id="P1"><measure number="1"><attributes><divisions>1'
        "</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
        f"{notes}</measure></part></score-partwise>"
    )
    return {"": text.encode()}


def cache() -> Contents:
    return npz(
        names=np.array(["bwv1", "bwv2"]),
        titles=np.array(["Herr Christ", ""]),
        frames=np.eye(5, 88, dtype=np.uint8),
        frame_counts=np.array([2, 3]),
        melodies=np.array([60, 62, 64, 65]),
        melody_counts=np.array([1, 3]),
    )


def nr25() -> Contents:
    return npz(
        ids=np.array(["a", "b", "c"]),
        split=np.array(["train", "test", "valid"]),
        offsets=np.array([0, 2, 5, 6]),
        sequence=np.frombuffer(b"ACDEFG", np.uint8),
        dssp8=np.frombuffer(b"HHCCCE", np.uint8),
        profile=np.full((6, 20), 12, np.uint8),
    )


def unipen() -> Contents:
    return npz(
        dxy=np.array([[5, 6], [1, 0], [-2, 3], [100, 100]], np.int16),
        pen_up=np.array([0, 1, 1, 1], np.uint8),
        offsets=np.array([0, 3, 4]),
        labels=np.array(['\\"To', "I"]),
        quality=np.array(["OK", "GOOD"]),
        source_id=np.array([1, 0]),
        source_files=np.array(["nic/mark/mark03.dat", "sta/sta1/hpb1yuko.dat"]),
    )


def chains(dtype: str) -> Contents:
    places = np.zeros((2, 700, 57))
    places[:, :, [21, 30]] = 1
    for place in range(3):
        places[:, place, [21, 30]] = 0
        places[:, place, [place, 22 + place]] = 1
        places[:, place, 35:] = 0.5
    stream = io.BytesIO()
    np.save(stream, places.reshape(2, -1).astype(dtype))
    return {"": stream.getvalue()}


def sound(kind: str, rate: int = 8000) -> bytes:
    stream = io.BytesIO()
    samples = np.random.default_rng(0).integers(-99, 99, 300) / 32768
    soundfile.write(stream, samples, rate, format=kind, subtype="PCM_16")
    return stream.getvalue()


def drawn(kind: str) -> bytes:
    stream = io.BytesIO()
    values = np.random.default_rng(0).integers(256, size=(9, 12, 3), dtype=np.uint8)
    Image.fromarray(values).save(stream, kind)
    return stream.getvalue()


def animation() -> bytes:
    stream = io.BytesIO()
    shades = np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8)
    first, *others = map(Image.fromarray, shades)
    first.save(stream, "GIF", save_all=True, append_images=others)
    return stream.getvalue()


def stories() -> Contents:
    story = "1 Mary moved to the bathroom.\n2 Where is Mary? \tbathroom\t1\n3 Bill is tired.\n"
    names = (f"en/qa{task}_title_{part}.txt" for task in babi.TASKS for part in ("train", "test"))
    return {name: (story + "4 Why?\ttired,sad\t3 1\n" + story * 12).encode() for name in names}


FASTA = {
    "splits/sequences.fasta": b">1abc-A\nMKU\nVL\n>2abc-B\nGGGG\n>3abc-C\nAAAA\n",
    "splits/sampled.fasta": b">1abc-A SET=train VALIDATION=False\nCHHHC\n>2abc-B SET=train VALIDATION=True\n"
    b"CEEC\n>3abc-C SET=test VALIDATION=False\nCCCC\n",
    "splits/mask.fasta": b">1abc-A\n01111\n>2abc-B\n1111\n>3abc-C\n0000\n",
}
CB513 = (
    b"input, dssp3, dssp8, disorder, cb513_mask\nA X Z U,C H H C,S H G C,0.0 1.0 1.0 1.0,1.0 1.0 0.0 1.0\n"
)
DIGIT = b""".HIERARCHY DIGIT
.SEGMENT DIGIT    0 ? "4"
.COMMENT 4  7  12
.PEN_DOWN
 1  2
 30  410
.PEN_UP
.DT 10
.PEN_DOWN
 5  6
.PEN_UP
"""
M3 = "series,N,NF,category,start_year,start_sub,values\n" + "".join(
    f"N{n},40,18,MICRO,1990,{n},{','.join(str(value + n / 2) for value in range(40))},,\n" for n in (1, 2)
)


def days(count: int, step: int, first: str = "2017-01-01") -> list[str]:
    return [str(np.datetime64(first) + step * number) for number in range(count)]


def weeks() -> bytes:
    rows = [f"{store},{store + 1},{day},1{store}.5,FALSE" for store in (1, 2) for day in days(70, 7)]
    return "\n".join(["Store,Dept,Date,Weekly_Sales,IsHoliday", *rows]).encode()


def views(*columns: str) -> bytes:
    rows = [f"{day},{n},{n + 1},{n + 2},{n + 3}" for n, day in enumerate(days(1100, 1))]
    return "\n".join([",".join(columns), *rows]).encode()


def idx(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(np.prod(shape))


# Parsers


def load(name: str) -> Callable[[Path], Any]:
    return lambda path: datasets.load(name, path.parents[1])


def letters(path: Path) -> Any:
    return list(fasta.read(lines_of(path), path.name))


def story(path: Path) -> Any:
    known = mock.Mock(words=Vocabulary(["mary", "moved", "where", "is"]))
    answer = mock.Mock(answer="here", confidence=1.0, weights=None)
    return list(asking.converse(lines_of(path), known, lambda question: answer))


def a3m(path: Path) -> Any:
    return profiles.read(lines_of(path), path.name, "MKVL")


TEXT = "no it was n't black monday\nbut while the <unk> stock exchange did n't fall apart friday\n" * 4
SPANISH = "Go.\tVe.\nRun!\t¡Corre!\nWho?\t¿Quién?\n".encode() * 3
GERMAN = "Ein Hund läuft.\nZwei Männer.\n".encode()
SPLITS = ("train", "val", "test_2016_flickr")
OTHERS = {
    f"multi30k/{part}.{language}.gz": gz({"": GERMAN}) for part in SPLITS for language in ("en", "de", "fr")
}
PTB = {f"ptb/ptb.{part}.txt.xz": xz({"": TEXT.encode()}) for part in ("train", "valid", "test")}
MEDIUM = {f"protein/{cb6133.TEST}": plain(chains("f4"))}

PARSERS: dict[str, Callable[[], Parser]] = {
    "rolls": lambda: Parser("music/a.mat", rolls(), mat, piano_rolls.read),
    "rolls, not packed": lambda: Parser("music/a.mat", rolls(), plain, piano_rolls.read),
    "score": lambda: Parser("music/a.musicxml", score(), plain, chorales.cut),
    "chorales": lambda: Parser("music/a.npz", cache(), as_zip, chorales._read_cache),
    "ptb": lambda: Parser("ptb/ptb.valid.txt.xz", {"": TEXT.encode()}, xz, load("ptb"), PTB),
    "shakespeare": lambda: Parser(
        "tinyshakespeare/input.txt", {"": TEXT.encode()}, plain, load("shakespeare")
    ),
    "multi30k": lambda: Parser("multi30k/val.de.gz", {"": GERMAN}, gz, load("multi30k"), OTHERS),
    "tatoeba-spa": lambda: Parser("tatoeba/spa-eng.tsv.xz", {"": SPANISH}, xz, load("tatoeba-spa")),
    "tatoeba-fra": lambda: Parser(
        "tatoeba/fra-eng.zip", {"_about.txt": b"a", "fra.txt": SPANISH}, as_zip, load("tatoeba-fra")
    ),
    "babi": lambda: Parser(
        f"babi/{babi.PACKED['1k'].name}", stories(), lambda each: xz({"": tar(each)}), load("babi-1k")
    ),
    "babi, published": lambda: Parser(
        f"babi/{babi.PUBLISHED.name}", stories(), lambda each: gz({"": tar(each)}), load("babi-1k")
    ),
    "nr25": lambda: Parser("protein/promod3_nr25.npz", nr25(), as_zip, load("protein-nr25")),
    "flip": lambda: Parser(
        "protein/flip_secondary_structure.zip",
        FASTA,
        as_zip,
        lambda path: proteins.flip(path.parents[1]),
    ),
    "cb513": lambda: Parser(
        "protein/CB513_HHblits.csv.xz", {"": CB513}, xz, lambda path: proteins.cb513(path.parents[1])
    ),
    "cb6133": lambda: Parser(f"protein/{cb6133.TRAIN}.gz", chains("f8"), gz, load("protein-cb6133"), MEDIUM),
    "cb6133, not packed": lambda: Parser(
        f"protein/{cb6133.TRAIN}", chains("f4"), plain, load("protein-cb6133"), MEDIUM
    ),
    "animation": lambda: Parser("videos/a.gif", {"": animation()}, plain, video_files.read_frames),
    "captions": lambda: Parser(
        "videos/train.tsv", {"": b"a.gif\tA man runs.\nb\tTwo dogs.\n" * 4}, plain, captioned.read_captions
    ),
    "spoken digits": lambda: Parser(
        "fsdd/a.zip",
        {"3_theo_7.flac": sound("flac"), "0_jackson_4.flac": sound("flac")},
        as_zip,
        spoken_digits.recordings,
    ),
    "spoken digits, published": lambda: Parser(
        "fsdd/a.tar.gz",
        {"a/3_theo_7.wav": sound("wav"), "a/0_jackson_4.wav": sound("wav")},
        lambda each: gz({"": tar(each)}),
        spoken_digits.recordings,
    ),
    "m3": lambda: Parser("m3/M3Month.csv.gz", {"": M3.encode()}, gz, load("m3")),
    "walmart": lambda: Parser("walmart/train.csv.zip", {"train.csv": weeks()}, as_zip, load("walmart")),
    "festivals": lambda: Parser(
        "festivals/festivals.csv",
        {"": views("date", *festivals_data.NAMES)},
        plain,
        load("festivals"),
    ),
    "festivals, published": lambda: Parser(
        "festivals/holidays.zip",
        {"holidays.csv": views("datetime", *festivals_data.WIKIPEDIA)},
        as_zip,
        load("festivals"),
    ),
    "unipen": lambda: Parser("unipen/unipen_6_words.npz", unipen(), as_zip, load("unipen-words")),
    "pendigits": lambda: Parser(
        "pendigits/pendigits-test.xz",
        {"": DIGIT * 2},
        xz,
        load("pendigits"),
        {"pendigits/pendigits-train.xz": xz({"": DIGIT})},
    ),
    "mnist": lambda: Parser(
        "mnist/images.gz",
        {"": idx((2, 28, 28))},
        gz,
        lambda path: mnist.digits(path, path.with_name("labels.gz")),
        {"mnist/labels.gz": gz({"": idx((2,))})},
    ),
    "series": lambda: Parser(
        "user/a.csv",
        {"": "\n".join(["day,sales", *(f"{day},{n}" for n, day in enumerate(days(40, 7)))]).encode()},
        plain,
        lambda path: user_series.read(path, "day", "sales"),
    ),
    "fasta": lambda: Parser("user/a.fasta", {"": b">one a\nMKTAY\nBXZ*\n\n>two\nacdef\n"}, plain, letters),
    "a3m": lambda: Parser("user/a.a3m", {"": b">one\nMKVL\n>two\nM-VaL\n>ss_dssp\nCC\n"}, plain, a3m),
    "asterisk": lambda: Parser(
        "asterisk-en/a.zip",
        {"transcripts.tsv": b"a\tOne two.\nsilence_1\t(silence)\n", "a.flac": sound("flac", 16_000)},
        as_zip,
        asterisk.read,
    ),
    "user's sound": lambda: Parser("user/a.wav", {"": sound("wav")}, plain, user_sound.read),
    **{
        f"user's picture, {kind}": functools.partial(
            Parser,
            f"user/a.{kind.lower()}",
            {"": drawn(kind)},
            plain,
            functools.partial(captioned.read_picture, side=8),
        )
        for kind in captioned.FORMATS
    },
    "flickr8k": lambda: Parser(
        f"flickr8k/{flickr8k.FIRST.name}",
        {f"images/{name}.jpg": drawn("JPEG") for name in "abc"},
        tar,
        load("flickr8k"),
        {
            f"flickr8k/{flickr8k.CAPTIONS.name}": b"".join(
                f"{name}.jpg#0\tA dog .\n".encode() for name in "abc"
            ),
            **{
                f"flickr8k/{file.name}": f"{name}.jpg\n".encode()
                for name, (file,) in zip("abc", flickr8k.LISTS, strict=True)
            },
        },
    ),
    "tuxpaint": lambda: Parser(
        f"tuxpaint/{tuxpaint.STAMPS.name}",
        {"a/b.jpg": drawn("JPEG"), "a/b.txt": b"A bee.\nde.utf8=Eine Biene.\n"},
        as_zip,
        load("tuxpaint"),
    ),
    "alignment": lambda: Parser(
        "user/a.tsv", {"": b"".join(alignment.FILE.read_bytes().splitlines(True)[:3])}, plain, alignment.read
    ),
    "styles": lambda: Parser(
        f"user/{styles.FILE}",
        {"": b'[{"text": "no", "writer": "me", "path": [[0, 0, 0, 1], [0.5, 0.25, 1, 0]]}]'},
        plain,
        lambda path: styles.load(path.parent),
    ),
    "ink, InkML": lambda: Parser(
        "user/a.inkml",
        {
            "": b"<ink><traceFormat><channel name='X'/><channel name='Y'/></traceFormat><traceGroup>"
            b"<annotation type='truth'>no</annotation><trace>10 0, 9 14, '8 28</trace></traceGroup></ink>"
        },
        plain,
        ink_files.read,
    ),
    "ink, UNIPEN": lambda: Parser("user/a.dat", {"": DIGIT}, plain, ink_files.read),
    "ink, JSON": lambda: Parser(
        "user/a.json",
        {"": b'[{"label": "no", "strokes": [[[1, 2], [3, 4]], {"x": [1], "y": [2]}]}]'},
        plain,
        ink_files.read,
    ),
    "story": lambda: Parser("user/a.txt", {"": b"1 Mary moved.\nWhere is Mary?\n"}, plain, story),
    "vocabulary": lambda: Parser(
        "user/a.json", {"": b'["the", "<unk>", "caf\\u00e9", "12"]'}, plain, Vocabulary.load
    ),
    "subwords": lambda: Parser(
        "user/a.model", {"": Subwords.learn(["a small house"] * 9, 290)._model}, plain, Subwords.load
    ),
}

# Damage

PIECES = [
    *(b"", b"\0", b"\xff\xfe", b"\xed\xa0\x80", "\u0663".encode(), "\u2028".encode(), b"\x1f\x8b", b"PK\3\4"),
    *(b"NaN", b"inf", b"-1", b"1e999", b'"', b",", b"\t", b"\r", b"\n\n", b"<", b"[", b"null", b" " * 99),
]
NUMBERS = [
    b"-1",
    b"0",
    b"99999999999999999999",
    b"-9" * 3,
    b"NaN",
    b"inf",
    b"1e400",
    b"",
    b"0.5",
    b"9" * 5000,
]
INTEGERS = [-1, 0, 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1]


def damaged(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    """The kind of damage, and the damaged content."""
    size = len(content)
    start = draw.randrange(size) if size else 0
    end = min(size, start + draw.choice([1, 2, 8, 64, 1 << 20]))
    kind = draw.choice(
        ["flip", "flip", "cut", "insert", "delete", "repeat", "number", "number", "integer", "fill"]
    )
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(draw.choice([1, 1, 4, 16]) if size else 0):
            changed[draw.randrange(size)] ^= 1 << draw.randrange(8)
        return kind, bytes(changed)
    if kind == "number" and (found := list(re.finditer(rb"-?[0-9.]+", content))):
        number = draw.choice(found)
        return kind, content[: number.start()] + draw.choice(NUMBERS) + content[number.end() :]
    if kind == "integer":
        width = draw.choice([1, 2, 4, 8])
        value = (draw.choice(INTEGERS) % (1 << 8 * width)).to_bytes(width, draw.choice(["little", "big"]))
        start -= start % width
        return kind, content[:start] + value + content[start + width :]
    changes = {
        "cut": lambda: content[:start],
        "insert": lambda: content[:start] + draw.choice([*PIECES, draw.randbytes(8)]) + content[start:],
        "number": lambda: content[:start] + draw.choice(NUMBERS) + content[start:],
        "delete": lambda: content[:start] + content[end:],
        "repeat": lambda: content[:end] + content[start:end] * draw.choice([1, 1, 50]) + content[end:],
        "fill": lambda: content[:start] + draw.choice([b"\0", b"\xff"]) * (end - start) + content[end:],
    }
    return kind, changes[kind]()


def mutated(parser: Parser, draw: random.Random) -> tuple[str, bytes]:
    """The parser's file, damaged itself or in what it packs."""
    if draw.random() < 0.35:
        return damaged(parser.pack(parser.contents), draw)
    contents = dict(parser.contents)
    for _ in range(draw.choice([1, 1, 1, 2])):
        name = draw.choice([*contents])
        kind, contents[name] = damaged(contents[name], draw)
    if len(contents) > 1 and draw.random() < 0.1:
        kind = "lost"
        del contents[draw.choice([*contents])]
    return f"{kind} within", parser.pack(contents)


@functools.cache
def zeros() -> tuple[bytes, bytes, bytes]:
    """Zeros as a block of a deflated stream, what ends the stream, and zeros packed by xz."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    block = packer.compress(bytes(ZEROS)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block, packer.flush(), lzma.compress(bytes(ZEROS), preset=0)


def bombs(parser: Parser) -> dict[str, bytes]:
    """Files of 20 KB that unpack to 1.3 GB."""
    name, copies, (block, end, whole) = [*parser.contents][-1] or "a", 80, zeros()
    stream = block * copies + end
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.compress_type, info.header_offset, info.CRC = zipfile.ZIP_DEFLATED, 0, 0
        info.file_size, info.compress_size = copies * ZEROS, len(stream)
        archive.fp.write(info.FileHeader(zip64=False) + stream)
        archive.filelist.append(info)
        archive.start_dir, archive._didModify = archive.fp.tell(), True
    end = len(whole) - 12 - 4 * (int.from_bytes(whole[-8:-4], "little") + 1)
    zlibbed = zlib.compress(b"")[:2] + stream
    return {
        "zip bomb": packed.getvalue(),
        "xz bomb": whole[:12] + whole[12:end] * copies + whole[end:],
        "gzip bomb": gzip.compress(b"")[:10] + stream,
        "MATLAB bomb": plain(rolls())[:128] + struct.pack("<II", 15, len(zlibbed)) + zlibbed,
    }


def traps(parser: Parser) -> dict[str, bytes]:
    """Other containers, archives that would write elsewhere, and archives with headers that are not true."""
    outside = {"../outside": b"x", "/tmp/lstmjax-outside": b"x", "..\\outside": b"x"}
    inside = parser.contents if "" not in parser.contents else {"a": plain(parser.contents)}
    whole = as_zip(inside)
    entry = whole.index(b"PK\1\2")
    encrypted = whole[: entry + 8] + b"\1" + whole[entry + 9 :]
    odd = whole[: entry + 10] + b"\x0e" + whole[entry + 11 :]
    links = io.BytesIO()
    with tarfile.open(fileobj=links, mode="w") as archive:
        for name in inside:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    backwards = tarfile.TarInfo("a")
    backwards.size = -1024
    name = next(iter(inside))
    sparse = tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT)
    sparse = bytearray(sparse)
    sparse[156:157], sparse[257:265] = b"S", b"ustar  \0"
    sparse[386:410] = b"00000000000\x0000000000000\0"
    sparse[483:495] = b"77777777777\0"
    sparse[148:156] = b"%06o\0 " % (sum(sparse[:148]) + 256 + sum(sparse[156:]))
    found = {
        "empty": b"",
        "zeros": bytes(1000),
        "text": b"nothing\n" * 9,
        "zip": as_zip(outside | inside),
        "zip, encrypted": encrypted,
        "zip, packed oddly": odd,
        "zip, empty": as_zip({}),
        "tar": tar(outside | inside),
        "tar, links": links.getvalue(),
        "tar, backwards": backwards.tobuf(tarfile.GNU_FORMAT) * 3,
        "tar, sparse": bytes(sparse) + bytes(1024),
        "pickle": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    }
    packed = {f"{kind}, xz": xz({"": content}) for kind, content in found.items()}
    return found | packed | {f"{kind}, gz": gz({"": content}) for kind, content in found.items()}


def impostors(path: Path) -> dict[str, Callable[[], None]]:
    """What is no file in the place of the file."""
    return {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "endless device": lambda: path.symlink_to("/dev/zero"),
        "link to itself": lambda: path.symlink_to(path),
    }


# What happens


class Hang(BaseException):
    """It waited for too long."""


def hang(*_: object) -> None:
    raise Hang


def failure(parser: Parser, path: Path) -> str | None:
    """What is wrong with how the file was parsed; None if nothing is."""
    before = {each for each in path.parents[2].rglob("*") if not each.is_dir()}
    began = time.process_time()
    wrong = None
    signal.alarm(HANGS)
    try:
        check(parser.parse(path))
    except DataError as error:
        text = str(error)
        if not any(each in text for each in (path.name.removesuffix(".xz"), str(path.parent), "of bAbI")):
            wrong = f"no file: {text[:200]}"
        if "\n" in text or len(text) > 600:
            wrong = f"not one line: {text[:200]}"
    except Hang:
        wrong = "hangs"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)
        ours = [each for each in place if "experiments" in each.filename] or place
        wrong = (
            f"{type(error).__name__}: {str(error)[:100]} ({Path(ours[-1].filename).name}:{ours[-1].lineno})"
        )
    finally:
        signal.alarm(0)
    seconds = time.process_time() - began
    after = {each for each in path.parents[2].rglob("*") if not each.is_dir()}
    if after != before or Path("/tmp/lstmjax-outside").exists():
        wrong = f"wrote {sorted(map(str, after ^ before))}"
    return wrong or (f"{seconds:.1f} s" if seconds > SECONDS else None)


def check(value: Any) -> None:
    """Raise `ArithmeticError` if there are numbers that are not finite, NaN for missing ones excepted."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
        if np.isinf(value).any():
            raise ArithmeticError("infinite values were taken")
    elif isinstance(value, user_series.Series) and np.isnan(value.values).all():
        raise ArithmeticError("no value was taken for a series")
    elif isinstance(value, list | tuple):
        for each in value[:50]:
            check(each)


def attack(parser: Parser, folder: Path, count: int) -> list[tuple[str, str]]:
    """The failures of a parser, with the kinds of damage."""
    path = folder / "data" / parser.file
    for name, content in {**parser.beside, parser.file: parser.pack(parser.contents)}.items():
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_bytes(content)
    check(parser.parse(path))
    failures, harmful = [], {**traps(parser), **bombs(parser)}

    def note(kind: str) -> None:
        if what := failure(parser, path):
            failures.append((kind, what))

    with at_most(BYTES):
        for seed in range(count):
            kind, content = mutated(parser, random.Random(seed))
            path.write_bytes(content)
            note(f"{seed}: {kind}")
        for kind, content in harmful.items():
            path.write_bytes(content)
            note(kind)
        for kind, make in impostors(path).items():
            path.unlink(missing_ok=True)
            make()
            note(kind)
            path.rmdir() if kind == "folder" else path.unlink()
    return failures


@contextlib.contextmanager
def at_most(further: int):
    """Let this process take so many bytes more of memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + further, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(count: int, names: list[str]) -> None:
    signal.signal(signal.SIGALRM, hang)
    warnings.simplefilter("ignore")
    anything = mock.patch.object(files, "_sha256", return_value=mock.ANY)
    few = mock.patch.multiple(cb6133, CHAINS={cb6133.TRAIN: 2, cb6133.TEST: 2}, TRAIN_CHAINS=1)
    found = {}
    with anything, few:
        for name in names or PARSERS:
            print(name, file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                found[name] = attack(PARSERS[name](), Path(folder) / "in", count)
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
