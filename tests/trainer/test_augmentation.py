"""Views are pure functions of pixels and numbers, with each strength doing what it says."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from trainer import augmentation
from trainer.config import Augmentation

STILL = {
    "crop_scale": (1.0, 1.0),
    "crop_ratio": (1.0, 1.0),
    "flip": False,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "grey": 0.0,
}
LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture
def images() -> np.ndarray:
    # Away from black and white, so that nothing is clipped.
    return np.random.default_rng(0).integers(90, 150, (16, 12, 12, 3), np.uint8)


def views(images, numbers=None, **strengths) -> np.ndarray:
    if numbers is None:
        numbers = augmentation.uniform_numbers(0, 0, tf.constant(0), len(images))
    return augmentation.random_views(images, numbers, Augmentation(**{**STILL, **strengths})).numpy()


def test_no_strength_is_the_identity(images):
    np.testing.assert_allclose(views(images), images / 255, atol=1e-6)


def test_numbers_depend_on_seed_stream_step_and_row_only():
    def numbers(seed, stream, step, rows):
        return augmentation.uniform_numbers(seed, stream, tf.constant(step, tf.int64), rows).numpy()

    base = numbers(1, 2, 3, 8)
    np.testing.assert_array_equal(base, numbers(1, 2, 3, 8))
    for other in (numbers(2, 2, 3, 8), numbers(1, 1, 3, 8), numbers(1, 2, 4, 8)):
        assert not np.array_equal(base, other)
    assert base.shape == (8, augmentation.NUMBERS_PER_VIEW)
    assert len(np.unique(base, axis=0)) == 8


def test_each_sample_is_drawn_by_itself(images):
    same = np.repeat(images[:1], 16, axis=0)
    for strength in ({"crop_scale": (0.3, 0.6)}, {"brightness": 0.5}, {"hue": 0.5}, {"contrast": 0.5}):
        drawn = views(same, **strength)
        assert len(np.unique(drawn.reshape(16, -1), axis=0)) == 16, strength


def test_flip_mirrors_about_half_from_left_to_right(images):
    drawn = views(images, flip=True)
    mirrored = [np.allclose(view, image[:, ::-1] / 255, atol=1e-5) for view, image in zip(drawn, images, strict=True)]
    still = [np.allclose(view, image / 255, atol=1e-5) for view, image in zip(drawn, images, strict=True)]
    assert sum(mirrored) + sum(still) == len(images)
    assert 3 <= sum(mirrored) <= 13


def test_brightness_scales(images):
    ratio = views(images, brightness=0.4) / (images / 255)
    per_image = ratio.reshape(16, -1)
    np.testing.assert_allclose(per_image, per_image[:, :1].repeat(per_image.shape[1], 1), rtol=1e-4)
    assert per_image.min() >= 0.6 - 1e-4
    assert per_image.max() <= 1.4 + 1e-4


def test_contrast_blends_with_the_mean_grey(images):
    drawn = views(images, contrast=0.5)
    x = images / 255
    grey = (x @ LUMA).mean(axis=(1, 2))[:, None, None, None]
    factor = (drawn - grey) / np.where(np.abs(x - grey) < 0.02, np.nan, x - grey)
    low, high = np.nanmin(factor, axis=(1, 2, 3)), np.nanmax(factor, axis=(1, 2, 3))
    np.testing.assert_allclose(low, high, rtol=1e-2)
    assert low.min() >= 0.49
    assert high.max() <= 1.51


def test_saturation_keeps_the_luma(images):
    drawn = views(images, saturation=0.8)
    np.testing.assert_allclose(drawn @ LUMA, images / 255 @ LUMA, atol=1e-4)
    assert not np.allclose(drawn, images / 255, atol=1e-2)


def test_grey_always_leaves_three_equal_channels(images):
    drawn = views(images, grey=1.0)
    np.testing.assert_allclose(drawn, np.repeat((images / 255 @ LUMA)[..., None], 3, axis=-1), atol=1e-5)


def test_grey_happens_with_its_probability():
    images = np.random.default_rng(0).integers(90, 150, (1000, 4, 4, 3), np.uint8)
    drawn = views(images, grey=0.2)
    share = (np.ptp(drawn, axis=-1).max(axis=(1, 2)) < 1e-4).mean()
    assert 0.15 < share < 0.25


def test_hue_turns_colours_and_keeps_luma(images):
    half_turn = np.full((16, augmentation.NUMBERS_PER_VIEW), 1.0, np.float32)
    drawn = views(images, numbers=half_turn, hue=0.5)
    np.testing.assert_allclose(drawn @ LUMA, images / 255 @ LUMA, atol=2e-3)
    red = np.full((1, 4, 4, 3), (140, 100, 100), np.uint8)
    turned = views(red, numbers=half_turn[:1], hue=0.5)[0, 0, 0]
    hue = colorsys.rgb_to_hsv(*turned)[0]
    assert hue == pytest.approx(0.5, abs=0.05)


def test_crop_keeps_a_share_of_the_area():
    # A ramp: the range of values in a view tells how much of the height it shows.
    ramp = np.broadcast_to(np.linspace(0, 255, 64)[None, :, None, None], (200, 64, 64, 3)).astype(np.uint8)
    drawn = views(ramp, crop_scale=(0.25, 0.25))
    shown = np.ptp(drawn, axis=(1, 2, 3))
    np.testing.assert_allclose(shown, 0.5, atol=0.03)


def test_strong_recolouring_stays_between_black_and_white(images):
    drawn = views(images * 0 + 255, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
