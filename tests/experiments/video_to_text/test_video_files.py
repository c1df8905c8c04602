"""Frames of people's own videos: of every kind, size and mode, or refused in one line."""

import numpy as np
import pytest
from PIL import Image

from experiments.datasets import DataError
from experiments.video_to_text.rendering import SIDE
from experiments.video_to_text.video_files import read_frames, sampled

SHADES = (0, 60, 120, 180, 240)


def stills(size=(40, 40)):
    return [Image.new("L", size, shade) for shade in SHADES]


def shades_of(frames):
    return frames[:, SIDE // 2, SIDE // 2].tolist()


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_an_animation_gives_its_frames_in_grey(kind, tmp_path):
    first, *others = stills()
    options = {"lossless": True} if kind == "webp" else {}
    first.save(tmp_path / f"a.{kind}", save_all=True, append_images=others, **options)
    frames = read_frames(tmp_path / f"a.{kind}")
    assert frames.shape == (5, SIDE, SIDE)
    assert frames.dtype == np.uint8
    assert shades_of(frames) == pytest.approx(SHADES, abs=1)


def test_a_folder_gives_its_pictures_in_the_order_of_their_numbers(tmp_path):
    for number, picture in zip((1, 2, 9, 10, 11), stills(), strict=True):
        picture.save(tmp_path / f"frame-{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    assert shades_of(read_frames(tmp_path)) == list(SHADES)


def test_a_film_gives_its_frames(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "a.mp4"
    writer = ffmpeg.write_frames(path, (64, 48), pix_fmt_in="gray", fps=10)
    writer.send(None)
    for shade in SHADES:
        writer.send(np.full((48, 64), shade, np.uint8))
    writer.close()
    frames = read_frames(path)
    assert shades_of(frames) == pytest.approx(SHADES, abs=8)
    assert frames[-1, 0].max() < 20, "a wide picture has borders above and below"


@pytest.mark.parametrize(
    ("mode", "value", "wanted"),
    [("RGB", (200, 200, 200), 200), ("RGBA", (255, 255, 255, 0), 0), ("I;16", 40000, 155), ("1", 1, 255)],
)
def test_a_picture_of_any_mode_and_of_one_pixel_is_a_frame(mode, value, wanted, tmp_path):
    Image.new(mode, (1, 1), value).save(tmp_path / "a.png")
    assert shades_of(read_frames(tmp_path / "a.png")) == pytest.approx([wanted], abs=1)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.mp4", "missing.gif", "missing.mp4", "empty"])
def test_what_is_no_video_is_refused_in_one_line(name, tmp_path):
    if name.startswith("a."):
        (tmp_path / name).write_bytes(b"GIF89a and nothing more")
    if name == "empty":
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=name) as refused:
        read_frames(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_of_a_longer_video_frames_are_taken_evenly():
    assert sampled(np.arange(5), 8).tolist() == [0, 1, 2, 3, 4]
    assert sampled(np.arange(9), 5).tolist() == [0, 2, 4, 6, 8]
