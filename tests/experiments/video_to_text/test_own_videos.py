"""Training on a folder of own videos with captions: GIFs and folders of frames, from files to sentences."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import __main__ as program
from experiments.video_to_text import folders, material
from experiments.video_to_text.config import Config
from experiments.video_to_text.data import decode
from experiments.video_to_text.rendering import SIDE
from lstmjax.training.record import Run

FRAMES = 6
CAPTIONS = {"right": ("A square moves right.", "it goes right"), "left": ("A square moves left.",)}


def film(direction, top, frames):
    """A bright square that crosses the picture, uint8 ``[frames, side, side]``."""
    video = np.zeros((frames, SIDE, SIDE), np.uint8)
    for picture, left in zip(video, np.linspace(0, SIDE - 8, frames).round().astype(int), strict=True):
        picture[top : top + 8, left : left + 8] = 255
    return video if direction == "right" else video[::-1]


def write_film(path, video):
    """Write a video as a GIF, or, without a suffix, as a folder of pictures."""
    pictures = [Image.fromarray(frame) for frame in video]
    if path.suffix:
        pictures[0].save(path, save_all=True, append_images=pictures[1:])
        return
    path.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(path / f"{number}.png")  # 10.png comes after 9.png


@pytest.fixture(scope="module", name="own")
def _own(tmp_path_factory):
    """Squares at eight heights to learn from, at two others to be tested on; some films are too long."""
    folder = tmp_path_factory.mktemp("own")
    heights = {"train": range(0, 24, 3), "valid": (4, 13), "test": (7, 16)}
    for part, tops in heights.items():
        lines = []
        for top in tops:
            for direction, captions in CAPTIONS.items():
                name = f"{direction}{top}" + (".gif" if top % 2 else "")
                write_film(folder / name, film(direction, top, 2 * FRAMES if top % 4 else FRAMES))
                lines += [f"{name}\t{caption}" for caption in captions]
        (folder / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module", name="trained")
def _trained(own, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    flags = {
        "--frames": FRAMES,
        "--channels": 4,
        "--features": 16,
        "--hidden": 16,
        "--batch-size": 16,
        "--epochs": 60,
        "--train.learning-rate": 0.01,
        "--train.warmup": 1,
        "--train.averaging": 0.5,
    }
    words = [str(word) for flag in flags.items() for word in flag]
    assert program.main(["video_to_text", "--folder", str(own), "--runs", str(runs), *words]) == 0
    (path,) = (runs / "video_to_text").iterdir()
    return Run.open(path)


def test_frames_are_read_in_order_and_long_films_are_sampled(own):
    parts = folders.load(own, most=FRAMES)
    assert [len(part) for part in parts] == [16, 4, 4]
    for video in (*parts.train, *parts.test):
        direction = video.captions[0].split()[-1]
        lefts = [int(frame.max(axis=0).nonzero()[0][0]) for frame in video.frames]
        assert lefts == sorted(lefts, reverse=direction == "left")
        assert (len(lefts), min(lefts), max(lefts)) == (FRAMES, 0, SIDE - 8)


def test_each_caption_is_learned_from_and_each_video_is_tested_once(own):
    parts = material.load(Config(folder=own, frames=FRAMES))
    train, test = (list(batches.once()) for batches in (parts.train, parts.tests["test"].batches))
    assert [sum(int((batch.items >= 0).sum()) for batch in part) for part in (train, test)] == [24, 4]
    told = [
        decode(parts.vocabulary, words.tolist())
        for batch in train
        for words in batch.target.values[batch.items >= 0]
    ]
    assert {each: told.count(each) for each in told} == {
        "a square moves right": 8,
        "it goes right": 8,
        "a square moves left": 8,
    }
    assert parts.tests["test"].references[0] == ("a square moves right", "it goes right")


def test_a_model_learns_from_films_which_way_a_square_went(trained):
    """Every picture of one direction is one of the other: only their order tells."""
    figures = trained.figures()
    assert figures["test_exact"] == 1
    assert figures["valid_nll"] < 0.5
    lines = (trained.path / "test.txt").read_text().splitlines()
    assert any("right" in line for line in lines)
    assert any("left" in line for line in lines)
    with Image.open(trained.path / "test.gif") as animation:
        assert animation.n_frames == FRAMES


def test_the_trained_model_describes_a_new_file(trained, tmp_path, capsys):
    for direction in CAPTIONS:
        path = tmp_path / f"{direction}.gif"
        write_film(path, film(direction, 10, FRAMES))
        flags = ["--run", str(trained.path), "--out", str(tmp_path / "out.gif")]
        assert program.main(["video_to_text", "describe", str(path), *flags]) == 0
        assert direction in capsys.readouterr().out.split("\t")[1]
    config = json.loads((trained.path / "config.json").read_text())["config"]
    assert config["frames"] == FRAMES
