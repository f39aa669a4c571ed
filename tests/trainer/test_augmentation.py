"""Views are pure functions of pixels and numbers, with each strength doing what it says."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter1d

from trainer import augmentation
from trainer.augmentation import StoredImages
from trainer.config import AugmentationSettings

STILL = {
    "crop_scale": (1.0, 1.0),
    "crop_ratio": (1.0, 1.0),
    "flip": False,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "grey": 0.0,
    "blur": 0.0,
    "solarise": 0.0,
}
LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture
def images() -> np.ndarray:
    # Away from black and white, so that nothing is clipped.
    return np.random.default_rng(0).integers(90, 150, (16, 12, 12, 3), np.uint8)


def views(images, numbers=None, view=0, size=None, **strengths) -> np.ndarray:
    if numbers is None:
        numbers = augmentation.uniform_numbers(0, 0, tf.constant(0), len(images))
    settings = AugmentationSettings(**{**STILL, **strengths})
    drawn = augmentation.random_views(StoredImages.whole(images), [numbers, numbers], settings, size).numpy()
    return np.split(drawn, 2)[view]


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
    half_turn = np.full((16, augmentation.NUMBERS_PER_VIEW), np.nextafter(np.float32(1), 0), np.float32)
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


def shown(height: int, width: int, numbers: tf.Tensor, **ranges) -> tuple[np.ndarray, np.ndarray]:
    """The shares of an image's height and width that square views show."""
    ramp = np.zeros((1, height, width, 3), np.float32)
    ramp[..., 0], ramp[..., 1] = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)
    settings = AugmentationSettings(**{**STILL, **ranges})
    corners = augmentation.random_views(StoredImages.whole(tf.constant(ramp)), [numbers], settings, (2, 2)).numpy()
    return corners[:, 1, 0, 0] - corners[:, 0, 0, 0], corners[:, 0, 1, 1] - corners[:, 0, 0, 1]


@pytest.mark.parametrize("aspect", [1.0, 2.0, 0.5])
def test_crops_have_the_drawn_area_and_a_uniform_ratio_wherever_they_fit(aspect):
    numbers = augmentation.uniform_numbers(0, 0, tf.constant(0), 4000)
    least, ends = 0.08, (3 / 4, 4 / 3)
    height, width = shown(60, round(60 * aspect), numbers, crop_scale=(least, 1.0), crop_ratio=ends)
    drawn = least + (1 - least) * numbers[:, 0].numpy()
    low, high = (np.clip(end, *ends) for end in (aspect * drawn, aspect / drawn))
    fits = (aspect * drawn <= ends[1]) & (aspect / drawn >= ends[0])
    assert fits.all() == (aspect == 1.0)
    np.testing.assert_allclose((height * width)[fits], drawn[fits], atol=1e-4)
    ratios = aspect * width / height
    assert ratios.min() > ends[0] - 1e-3
    assert ratios.max() < ends[1] + 1e-3
    places = np.sort((np.log(ratios / low) / np.log(np.maximum(high / low, 1.01)))[fits & (high / low > 1.05)])
    np.testing.assert_allclose(places, np.linspace(0, 1, len(places)), atol=0.04)
    # The others are the largest crops of the nearest ratio.
    sides = np.stack([height, width])[:, ~fits]
    np.testing.assert_allclose(sides.max(axis=0, initial=0), 1, atol=1e-4)
    np.testing.assert_allclose(ratios[~fits], np.clip(aspect, *ends), atol=1e-3)


def test_strong_recolouring_stays_between_black_and_white(images):
    drawn = views(images * 0 + 255, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5)
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_colours_change_with_the_probability_of_jitter():
    images = np.random.default_rng(0).integers(90, 150, (1000, 4, 4, 3), np.uint8)
    drawn = views(images, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.3, jitter=0.8)
    still = np.abs(drawn - images / 255).max(axis=(1, 2, 3)) < 1e-4
    assert 0.15 < still.mean() < 0.25


def test_blur_is_a_gaussian_whose_width_follows_the_size(images):
    drawn = views(images, blur=1.0, blur_sigma=(28.0, 28.0))
    # 28 pixels of 224 are 1.5 of these images' 12. At the borders, what lies outside is left out.
    weights = gaussian_filter1d(np.ones(12), 1.5, mode="constant", truncate=8)
    expected = images / 255
    for axis in (1, 2):
        shape = [1, 1, 1, 1]
        shape[axis] = 12
        expected = gaussian_filter1d(expected, 1.5, axis, mode="constant", truncate=8) / weights.reshape(shape)
    np.testing.assert_allclose(drawn, expected, atol=1e-4)


def test_blur_and_solarise_happen_with_their_probability_of_each_view():
    images = np.random.default_rng(0).integers(0, 256, (600, 6, 6, 3), np.uint8)
    for strength in ({"blur": (0.3, 0.0), "blur_sigma": (50.0, 60.0)}, {"solarise": (0.3, 0.0)}):
        changed = [np.abs(views(images, view=v, **strength) - images / 255).max(axis=(1, 2, 3)) > 1e-4 for v in (0, 1)]
        assert 0.23 < changed[0].mean() < 0.37
        assert changed[1].mean() == 0


def test_solarise_inverts_what_is_brighter_than_a_half(images):
    x = images / 255
    np.testing.assert_allclose(views(images, solarise=1.0), np.where(x > 0.5, 1 - x, x), atol=1e-6)


def test_images_and_views_of_one_ratio_that_is_not_square_are_not_distorted():
    images = np.random.default_rng(0).integers(90, 150, (4, 12, 18, 3), np.uint8)
    np.testing.assert_allclose(views(images), images / 255, atol=1e-6)
    # Of a crop of half the area, both sides are shorter by the same factor.
    rows, columns = np.mgrid[0:12, 0:18].astype(np.float32) + 90
    slope = np.repeat(np.stack([columns, rows, rows], axis=-1)[np.newaxis], 4, axis=0)
    found = 255 * views(slope, size=(12, 18), crop_scale=(0.5, 0.5))
    across, down = np.ptp(found[..., 0], axis=(1, 2)) / 17, np.ptp(found[..., 1], axis=(1, 2)) / 11
    np.testing.assert_allclose(across, 0.5**0.5, rtol=1e-3)
    np.testing.assert_allclose(down, 0.5**0.5, rtol=1e-3)


def test_two_views_at_once_are_those_drawn_one_by_one(images):
    settings = AugmentationSettings(preset="simclr")
    numbers = [augmentation.uniform_numbers(0, stream, tf.constant(0), len(images)) for stream in (0, 1)]
    together = augmentation.random_views(StoredImages.whole(images), numbers, settings).numpy()
    alone = [augmentation.random_views(StoredImages.whole(images), [own], settings).numpy() for own in numbers]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)
    assert not np.allclose(alone[0], alone[1], atol=0.1)


def test_small_views_have_their_size(images):
    drawn = views(images, size=(5, 7))
    assert drawn.shape == (16, 5, 7, 3)


def test_presets_are_the_papers_and_single_strengths_override_them():
    byol = AugmentationSettings(preset="byol")
    assert (byol.blur, byol.solarise, byol.saturation) == ((1.0, 0.1), (0.0, 0.2), 0.2)
    simclr = AugmentationSettings(preset="simclr")
    assert AugmentationSettings(preset="simclr", grey=0.5) == simclr.model_copy(update={"grey": 0.5})
    assert (AugmentationSettings().brightness, AugmentationSettings(brightness=0).brightness) == (0.5, 0.0)
    assert AugmentationSettings.model_validate(byol.model_dump()) == byol
    with pytest.raises(ValidationError, match="keras-example"):
        AugmentationSettings(preset="moco")
