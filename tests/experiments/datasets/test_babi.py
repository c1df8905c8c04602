"""bAbI as it is read: real files where they lie at hand, and small ones written here."""

import collections
import io
import tarfile

import pytest

from experiments import datasets
from experiments.datasets import DataError, babi

STORIES = """1 Mary moved to the bathroom.
2 Where is Mary? \tbathroom\t1
3 Mary got the milk there.
4 Daniel went to the office.
5 What is Mary carrying?\tmilk,apple\t3 1
1 Bill is tired.
2 Why did bill go?\ttired\t1
"""


@pytest.fixture(scope="module", name="real")
def _real(real_data):
    return datasets.load("babi-1k", real_data)


def test_sentences_questions_lists_and_facts():
    first, second = babi.parse(STORIES, 8)
    assert [each.answer for each in first] == ["bathroom", "milk,apple"]
    assert first[0].story == (("mary", "moved", "to", "the", "bathroom"),)
    assert first[0].question == ("where", "is", "mary")
    assert first[1].story[1:] == (
        ("mary", "got", "the", "milk", "there"),
        ("daniel", "went", "to", "the", "office"),
    )
    assert first[1].facts == (1, 0), "places among the sentences, in the order of the file"
    assert second == [
        babi.Question(8, (("bill", "is", "tired"),), ("why", "did", "bill", "go"), "tired", (0,))
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 Mary moved.\n3 Where is Mary?\there\t1\n", "line 2 is neither"),
        ("Mary moved.\n", "line 1 is neither"),
        ("1 Mary moved.\n2 Where is Mary?\there\n", "line 2 is neither"),
        ("1 Mary moved.\n2 Where is Mary?\there\t2\n", r"line 2 follows from lines that are none: \[2\]"),
    ],
)
def test_a_line_that_is_not_as_it_should_be_is_named(text, message):
    with pytest.raises(DataError, match=message):
        list(babi.parse(text, 1))


def test_the_real_files_have_what_is_documented(real):
    assert [len(part) for part in real] == [18_017, 1_983, 20_000]
    assert set(collections.Counter(each.task for each in real.test).values()) == {1_000}
    both = collections.Counter(each.task for part in (real.train, real.valid) for each in part)
    assert set(both.values()) == {1_000}
    assert all(90 <= count <= 100 for count in collections.Counter(each.task for each in real.valid).values())
    assert all(fact < len(each.story) for part in real for each in part for fact in each.facts)


def test_answers_that_are_lists_stay_whole(real):
    answers = {task: {each.answer for each in real.train if each.task == task} for task in babi.TASKS}
    lists = {task for task, found in answers.items() if any("," in answer for answer in found)}
    assert lists == {8, 19}
    assert answers[19] <= {f"{one},{other}" for one in "news" for other in "news"}


def test_the_validation_part_is_the_end_of_the_published_one_and_shares_no_story(real, real_data):
    packed = real_data / "babi" / babi.PACKED["1k"].name
    text = babi._read(packed, "en", set())[17, "train"] if packed.exists() else pytest.skip("not packed so")
    stories = list(babi.parse(text, 17))
    ours = [each for each in real.train if each.task == 17]
    valid = [each for each in real.valid if each.task == 17]
    assert ours + valid == [each for story in stories for each in story]
    assert valid[0] in [story[0] for story in stories], "a story begins there"


def archive(path, names):
    with tarfile.open(path, "w:gz") as packed:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(STORIES)
            packed.addfile(member, io.BytesIO(STORIES.encode()))


def test_the_published_packing_is_read_too(tmp_path):
    names = [f"qa{task}_any-title_{part}.txt" for task in babi.TASKS for part in ("train", "test")]
    path = tmp_path / "tasks.tar.gz"
    archive(path, [f"tasks_1-20_v1-2/{folder}/{name}" for folder in ("en", "en-10k", "hn") for name in names])
    assert babi._read(path, "en", set())[20, "test"] == STORIES
    archive(path, [f"en/{name}" for name in names[2:]])
    with pytest.raises(DataError, match=r"lacks parts of bAbI: \[\(1, 'test'\), \(1, 'train'\)\]"):
        babi._read(path, "en", set())
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot be read"):
        babi._read(path, "en", set())


def test_an_unknown_size_is_answered_with_those_there_are():
    with pytest.raises(DataError, match=r"'100k'.*Known: 10k, 1k"):
        babi.load("100k")
