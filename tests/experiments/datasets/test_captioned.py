"""Pictures with captions: people's own files, the data sets, and scenes that are what their sentences say."""

import io

import numpy as np
import pytest
from PIL import Image

from experiments import datasets
from experiments.datasets import captioned, flickr8k, shapes
from experiments.datasets.files import DataError


def packed(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def half(size=(40, 20)):
    """Red on the left, blue on the right."""
    values = np.zeros((size[1], size[0], 3), np.uint8)
    values[:, : size[0] // 2, 0] = 255
    values[:, size[0] // 2 :, 2] = 255
    return Image.fromarray(values)


@pytest.mark.parametrize("kind", captioned.FORMATS)
def test_a_picture_of_each_format_is_scaled(kind):
    found = captioned.picture(packed(half(), kind), 8)
    assert found.shape == (8, 8, 3)
    assert found.dtype == np.uint8
    assert found[4, 0, 0] > 200
    assert found[4, 0, 2] < 50


def test_modes_and_orientations():
    rgb = captioned.picture(packed(half()), 8)
    np.testing.assert_array_equal(captioned.picture(packed(half().convert("P")), 8)[:, 0], rgb[:, 0])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: red comes to the top
    turned = captioned.picture(packed(half(), exif=exif), 8)
    assert turned[0, 4, 0] > 200
    assert turned[7, 4, 0] < 50
    clear = Image.new("RGBA", (3, 3), (0, 0, 0, 0))
    assert captioned.picture(packed(clear), 2).min() == 255
    grey = Image.fromarray(np.full((5, 5), 32_896, np.uint16))
    assert set(captioned.picture(packed(grey), 2).ravel()) == {128}
    assert captioned.picture(packed(half((1, 1))), 4).shape == (4, 4, 3)
    assert captioned.picture(packed(half().convert("CMYK"), "JPEG"), 4)[2, 0, 0] > 150


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = packed(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert captioned.picture(content, 2)[0, 0].tolist() == [255, 0, 0]


def test_broken_files_are_refused_in_one_line(tmp_path):
    whole = packed(half((200, 200)), "JPEG")
    for name, content in {"cut.jpg": whole[:300], "text.png": b"no picture", "empty.webp": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name} cannot be read: .*\. Put the right file"):
            captioned.read_picture(tmp_path / name, 8)
    with pytest.raises(DataError, match="it is none of JPEG, PNG, WEBP"):
        captioned.read_picture(tmp_path / "text.png", 8)
    large = Image.new("1", (12_000, 12_000))
    (tmp_path / "large.png").write_bytes(packed(large))
    with pytest.raises(DataError, match=r"large.png cannot be read: Image size \(144000000 pixels\)"):
        captioned.read_picture(tmp_path / "large.png", 8)


def test_captions_are_parsed_and_checked():
    assert flickr8k.parse_captions("a.jpg#0\tOne .\na.jpg#1\tTwo\n") == {"a.jpg": ("One .", "Two")}
    with pytest.raises(DataError, match=r"Flickr8k.token.txt, line 2 cannot be read"):
        flickr8k.parse_captions("a.jpg#0\tOne .\nno tab\n")
    with pytest.raises(DataError, match=r"b.jpg has no caption"):
        captioned.check_captions("b.jpg", ("One", " "))


def test_the_photographs_and_stamps_at_hand(real_data):
    photographs = datasets.load("flickr8k", real_data)
    assert [len(part) for part in photographs] == [753, 113, 125]
    assert {len(each.captions) for part in photographs for each in part} == {5}
    stamps = datasets.load("tuxpaint", real_data)
    assert sum(map(len, stamps)) == 785
    known = [{each.captions for each in part} for part in stamps]
    assert sum(map(len, known)) == len(set.union(*known))


def test_held_out_things_are_in_their_split_alone():
    train, valid, test = map(set, shapes.things())
    assert (len(train), len(valid), len(test)) == (60, 10, 10)
    assert len(train | valid | test) == 80
    for part in (valid, test):
        for size, colour, shape in part:
            assert sum(each[1:] == (colour, shape) for each in train) == 1, "in the other size"
            assert any(each[:2] == (size, colour) for each in train)
            assert any((each.size, each.shape) == (size, shape) for each in train)
    rng = np.random.default_rng(0)
    known, _, held = shapes.things()
    for wanted, allowed in (((), train), (held, train | test)):
        for _ in range(50):
            (sentence,) = shapes.scene(rng, known, wanted).captions
            parts = sentence.replace("above", "left of").split(" left of ")
            found = {shapes.Thing(*part.split()[1:]) for part in parts}
            assert found <= allowed
            assert not wanted or found & test


def test_a_scene_is_what_its_sentence_says():
    """The middles of the colours' pixels are in order, and large things have more of them."""
    rng = np.random.default_rng(1)
    things = [shapes.Thing("small", "red", "circle"), shapes.Thing("large", "blue", "circle")]
    picture = shapes.render(rng, things, np.array([[8.0, 24.0], [40.0, 24.0]])).astype(int)
    red = np.argwhere(picture[..., 0] - picture[..., 2] > 100)
    blue = np.argwhere(picture[..., 2] - picture[..., 0] > 100)
    np.testing.assert_allclose(red.mean(axis=0), (24, 8), atol=0.7)
    np.testing.assert_allclose(blue.mean(axis=0), (24, 40), atol=0.7)
    assert len(blue) > 2 * len(red)
    same = [shapes.scene(np.random.default_rng((1, 5)), shapes.things().train, ()) for _ in range(2)]
    np.testing.assert_array_equal(same[0].picture, same[1].picture)
