"""bAbI v1.2: twenty tasks, each testing one kind of reasoning, as English stories with questions.

Source: Weston et al. 2015 (arXiv:1502.05698), from its authors' address. Licence: CC BY 3.0.

A file is a sequence of stories whose lines are numbered from 1; a line is a sentence, or a question with its
answer and the numbers of the supporting lines:

    1 Mary moved to the bathroom.
    2 John went to the hallway.
    3 Where is Mary? 	bathroom	1

The story of a `Question` is all sentences before it, without the earlier questions. An answer that is a list
(tasks 8 and 19: ``apple,milk`` or ``n,w``) is one string, and only correct as a whole.

Splits. Each task has 1,000 training questions (10,000 in size ``10k``) and 1,000 test questions, the same in
both sizes. The validation split is the end of the published training split: the stories whose first question
comes after 90 per cent of the questions. So no story is in two splits; for size ``1k`` this gives:

    train 18,017 questions    valid 1,983    test 20,000

The published file is `tasks_1-20_v1-2.tar.gz`. If the folder has `babi_en_1k.tar.xz` (the folder ``en`` of
it) or `babi_en-10k_without_qa3_train.tar.xz` (``en-10k``, except the training split of task 3, which is
replaced by that of ``en``), these are read instead.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from experiments.datasets import Splits
from experiments.datasets.files import (
    DataError,
    DataFile,
    data_folder,
    fetch,
    reading,
    unarchive,
    unknown_name,
)

TASKS = {
    1: "single supporting fact",
    2: "two supporting facts",
    3: "three supporting facts",
    4: "two-argument relations",
    5: "three-argument relations",
    6: "yes/no questions",
    7: "counting",
    8: "lists and sets",
    9: "simple negation",
    10: "indefinite knowledge",
    11: "basic coreference",
    12: "conjunction",
    13: "compound coreference",
    14: "time reasoning",
    15: "basic deduction",
    16: "basic induction",
    17: "positional reasoning",
    18: "size reasoning",
    19: "path finding",
    20: "agents' motivations",
}
"""The titles of the tasks."""

SIZES = {"1k": "en", "10k": "en-10k"}
"""The sizes of the training split, and their folders in the published file."""

_URL = "http://www.thespermwhale.com/jaseweston/babi/tasks_1-20_v1-2.tar.gz"
PUBLISHED = DataFile(
    "babi", "tasks_1-20_v1-2.tar.gz", _URL, "0364ebde659f14d11bc21744516c5ec49d3d06cb692733f66680771244998898"
)
"""The published file, with both sizes and other languages."""

PACKED = {
    "1k": DataFile(
        "babi",
        "babi_en_1k.tar.xz",
        _URL,
        "6cb433860a2a2295839d36f0fad7659936d17df4d3fb37105a6cf2d752415b4c",
    ),
    "10k": DataFile(
        "babi",
        "babi_en-10k_without_qa3_train.tar.xz",
        _URL,
        "1a042166cd845ee3263cdd921c005cbd828dfe6d0601eb3ca536d180a66e34e8",
    ),
}
"""Smaller files with one folder each, which are preferred if present."""

VALID_SHARE = 0.1

LONGEST = 1000
"""The most lines of a story; published ones have up to 320."""

_LARGEST = 256 << 20  # bytes of the published file, unpacked


class Question(NamedTuple):
    """A question with its story and its answer."""

    task: int
    """1 to 20."""
    story: tuple[tuple[str, ...], ...]
    """The sentences before the question, each as its words."""
    question: tuple[str, ...]
    """The words of the question."""
    answer: str
    """A word, or the words of a list separated by commas."""
    facts: tuple[int, ...]
    """Indices of the supporting sentences of the story, from 0, in the order of the file."""


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, without punctuation.

    Example:
        >>> words("Where is Mary? ")
        ('where', 'is', 'mary')
    """
    return tuple(re.findall(r"\w+", text.lower()))


def load(size: str = "1k", data_dir: str | Path | None = None) -> Splits[Question]:
    """Load the questions of all tasks, one task after the other.

    Raises:
        DataError: the size is unknown, or a file is missing, damaged or holds something else.
    """
    if size not in SIZES:
        raise unknown_name("size of bAbI", size, SIZES)
    files = _files(size, data_dir)
    parts: tuple[list[Question], ...] = ([], [], [])
    for task in TASKS:
        stories = list(parse(files[task, "train"], task))
        train, valid = _divide(stories)
        test = [question for story in parse(files[task, "test"], task) for question in story]
        for part, questions in zip(parts, (train, valid, test), strict=True):
            if not questions:
                raise DataError(
                    f"task {task} of bAbI lacks the questions of a part. Put the right file there."
                )
            part.extend(questions)
    return Splits(*map(tuple, parts))


def parse(text: str, task: int) -> Iterator[list[Question]]:
    """The questions of each story of a file.

    Raises:
        DataError: a line is malformed; the message has its number.
    """
    questions: list[Question] = []
    sentences: list[tuple[str, ...]] = []
    place: dict[int, int] = {}
    for count, line in enumerate(text.splitlines(), start=1):
        matched = re.fullmatch(r"([0-9]{1,4}) ([^\t]*\w[^\t]*)(?:\t(\w[^\t]*)\t([0-9 ]{0,99}))?", line)
        number = int(matched[1]) if matched else 0
        if matched is None or number not in (1, len(sentences) + len(questions) + 1) or number > LONGEST:
            raise DataError(
                f"task {task} of bAbI: line {count} is neither a sentence nor a question: {line[:80]!r}."
            )
        if number == 1 and (questions or sentences):
            yield questions
            questions, sentences, place = [], [], {}
        if matched[3] is None:
            place[number] = len(sentences)
            sentences.append(words(matched[2]))
            continue
        unknown = set(map(int, matched[4].split())) - set(place)
        if unknown:
            raise DataError(
                f"task {task} of bAbI: line {count} follows from lines that are none: {sorted(unknown)}."
            )
        facts = tuple(place[int(fact)] for fact in matched[4].split())
        questions.append(Question(task, tuple(sentences), words(matched[2]), matched[3].strip(), facts))
    yield questions


def _divide(stories: list[list[Question]]) -> tuple[list[Question], list[Question]]:
    """The questions of the training and the validation split, from the published training stories."""
    train: list[Question] = []
    valid: list[Question] = []
    limit = round((1 - VALID_SHARE) * sum(map(len, stories)))
    for story in stories:
        (valid if len(train) >= limit else train).extend(story)
    return train, valid


def _files(size: str, data_dir: str | Path | None) -> dict[tuple[int, str], str]:
    """The texts of a size, by task and split."""
    packed = PACKED[size]
    if not (data_folder(data_dir) / packed.dataset / packed.name).exists():
        return _read(fetch(PUBLISHED, data_dir), SIZES[size], missing=set())
    lacking = {(3, "train")} if size == "10k" else set()
    files = _read(fetch(packed, data_dir), SIZES[size], lacking)
    return files if not lacking else {(3, "train"): _files("1k", data_dir)[3, "train"], **files}


def _read(path: Path, folder: str, missing: set[tuple[int, str]]) -> dict[tuple[int, str], str]:
    found: dict[tuple[int, str], str] = {}
    contents = unarchive(path, rf"(?:.*/)?{folder}/qa[0-9]{{1,2}}_[^/]*_(train|test)\.txt", _LARGEST)
    with reading(path) as place:
        for place.text, content in contents.items():
            task, _, part = Path(place.text).stem.removeprefix("qa").partition("_")
            found[int(task), part.rpartition("_")[2]] = content.decode("utf-8")
    absent = {(task, part) for task in TASKS for part in ("train", "test")} - set(found) - missing
    if absent:
        raise DataError(f"{path} lacks parts of bAbI: {sorted(absent)[:4]}.")
    return found
