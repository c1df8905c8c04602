"""MNIST: the published files, and files that are no idx files."""

import gzip
import struct

import numpy as np
import pytest

from experiments import datasets
from experiments.datasets import DataError, mnist


def write(path, array, kind=8):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))
    return path


def test_images_and_labels_belong_together(tmp_path):
    pixels = np.arange(2 * 784).reshape(2, 28, 28) % 251
    found = mnist.digits(write(tmp_path / "i.gz", pixels), write(tmp_path / "l.gz", np.array([7, 0])))
    assert [digit.label for digit in found] == [7, 0]
    np.testing.assert_array_equal(np.stack([digit.pixels for digit in found]), pixels)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 28, 27)), np.zeros(2), r"i.gz and l.gz have shapes \(2, 28, 27\) and \(2,\), not"),
        (np.zeros((2, 28, 28)), np.zeros(3), r"have shapes \(2, 28, 28\) and \(3,\), not \[images, 28, 28\]"),
        (np.zeros((1, 28, 28)), np.array([10]), "l.gz has the label 10, which is no digit"),
    ],
)
def test_other_arrays_are_refused(images, labels, message, tmp_path):
    with pytest.raises(DataError, match=message):
        mnist.digits(write(tmp_path / "i.gz", images), write(tmp_path / "l.gz", labels))


def test_what_is_no_idx_file_of_bytes_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a.gz cannot be read: it has no header of idx with bytes"):
        mnist.read_idx(write(tmp_path / "a.gz", np.zeros(3), kind=13))


def test_the_published_files(real_data):
    parts = datasets.load("mnist", real_data)
    assert [len(part) for part in parts] == [55_000, 5000, 10_000]
    assert [digit.label for digit in parts.train[:5]] == [5, 0, 4, 1, 9]
    assert [digit.label for digit in parts.test[:5]] == [7, 2, 1, 0, 4]
    assert parts.train[0].pixels.shape == (28, 28)
    assert parts.train[0].pixels.max() == 255
