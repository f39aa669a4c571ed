"""The embedded sample is STL-10-shaped, the same everywhere, and fair."""

import numpy as np
import pytest
from PIL import Image

from components.image_example_gen import stl10
from components.image_example_gen.sources.opening import open_source
from pipeline.data import sample

COUNTS = {"unlabelled": 60, "train": 40, "test": 30}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "drawn"
    sample.write_sample(path, counts=COUNTS)
    return path


def test_it_is_read_as_stl10(directory):
    source = open_source(str(directory))
    assert source.kind == "stl10 directory"
    assert source.counts == COUNTS
    assert source.class_names == sample.NAMES
    assert (directory / "train_X.bin").stat().st_size == 40 * 3 * 96 * 96


def test_it_is_the_same_each_time(directory, tmp_path):
    sample.write_sample(tmp_path / "again", counts=COUNTS)
    for name in stl10.FILES:
        assert (tmp_path / "again" / name).read_bytes() == (directory / name).read_bytes(), name
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_no_digit_of_the_test_split_is_drawn_elsewhere(tmp_path, monkeypatch):
    drawn = []

    def remember(digit, photograph, rng):
        drawn.append(digit.tobytes())
        return np.zeros((96, 96, 3), np.uint8)

    monkeypatch.setattr(sample, "_draw", remember)
    counts = {"unlabelled": 2_000, "train": 800, "test": 600}
    sample.write_sample(tmp_path / "counted", counts=counts)
    # scikit-learn's digits are all different, so a digit's pixels are its identity.
    elsewhere, test = set(drawn[:2_800]), set(drawn[2_800:])
    assert len(test) > 300
    assert not elsewhere & test


def test_labels_are_the_digits_and_images_are_not_flat(directory):
    source = open_source(str(directory))
    labels = [source._labels["train"].of(i)[0] for i in range(40)]
    assert set(labels) <= set(range(10))
    assert len(set(labels)) > 5
    images = stl10.decode_images((directory / "train_X.bin").read_bytes())
    assert images.std(axis=(1, 2, 3)).min() > 5


def test_digit_stands_out_from_its_texture():
    rng = np.random.default_rng(0)
    digit = np.zeros((8, 8))
    digit[2:6, 2:6] = 16
    photograph = np.asarray(Image.linear_gradient("L").convert("RGB"))
    drawn = sample._draw(digit, photograph, rng).astype(float)
    assert drawn.shape == (96, 96, 3)
    corner, centre = drawn[:6, :6].mean(axis=(0, 1)), drawn[40:56, 40:56].mean(axis=(0, 1))
    assert np.abs(corner - centre).mean() > 20
