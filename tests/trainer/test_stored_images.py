"""Images that are stored larger than those that an encoder is trained on, in different sizes."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.image_example_gen import encoding
from components.image_example_gen.sources.base import Picture
from tests.trainer.test_augmentation import STILL
from trainer import augmentation, data, examples, fitting, inputs
from trainer.augmentation import StoredImages
from trainer.config import AugmentationSettings, TrainerSettings
from trainer.errors import DataError

SHAPES = [(48, 64), (64, 48), (48, 48), (20, 60)]


def photograph(seed: int, height: int, width: int) -> np.ndarray:
    """Draws a smooth picture, which JPEG keeps well."""
    small = np.random.default_rng(seed).integers(60, 256, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def write(path: Path, images: list[np.ndarray], image_size: int | None, kind: str = examples.RAW) -> list[str]:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i, image in enumerate(images):
            writer.write(encoding.to_example(Picture("train", i, f"train/{i}", image, i % 2), image, image_size, kind))
    return [str(path)]


@pytest.fixture
def images() -> list[np.ndarray]:
    return [photograph(i, *SHAPES[i % len(SHAPES)]) for i in range(16)]


@pytest.mark.parametrize(("kind", "tolerance"), [(examples.RAW, 0), (examples.JPEG, 8)])
def test_batches_hold_each_image_in_the_corner_of_a_canvas(tmp_path, images, kind, tolerance):
    files = write(tmp_path / "records", images, 32, kind)
    assert data.survey(files).largest == (64, 64)
    found = {}
    for batch in data.unlabelled_batches(files, (64, 64), 4, data.Order(8, 0, 1)):
        for pixels, shape in zip(batch["image"].numpy(), batch["shape"].numpy().astype(int), strict=True):
            height, width = shape
            assert not pixels[height:].any()
            assert not pixels[:, width:].any()
            (number,) = (i for i, image in enumerate(images) if _close(image, pixels[:height, :width], tolerance))
            found[number] = True
    assert len(found) == len(images)


def _close(image: np.ndarray, other: np.ndarray, tolerance: int) -> bool:
    return image.shape == other.shape and np.abs(image.astype(int) - other).max() <= tolerance


def test_all_other_readers_get_the_image_that_an_exported_encoder_sees(tmp_path, images):
    files = write(tmp_path / "records", images, 32)
    assert examples.image_size(files) == (32, 32)
    found = data.labelled_pixels(files, (32, 32)).pixels
    for image, pixels in zip(images, found, strict=True):
        expected = np.round(fitting.fit(tf.constant(image[None]), (32, 32))[0].numpy())
        np.testing.assert_array_equal(pixels, expected)
        # As Pillow would, up to its other rounding.
        np.testing.assert_allclose(pixels, encoding.fit(image, 32), atol=12)


def test_records_of_earlier_versions_are_read(tmp_path):
    images = [photograph(i, 32, 32) for i in range(4)]
    path = tmp_path / "records"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i, image in enumerate(images):
            example = tf.train.Example.FromString(encoding.to_example(Picture("train", i, str(i), image, 0), image))
            for name in (examples.ENCODING, examples.IMAGE_SIZE):
                del example.features.feature[name]
            writer.write(example.SerializeToString())
    assert inputs.read(TrainerSettings(), [str(path)], []).size == (32, 32)
    np.testing.assert_array_equal(data.labelled_pixels([str(path)], (32, 32)).pixels, images)


def test_images_of_different_sizes_need_the_size_to_train_on(tmp_path, images):
    path = tmp_path / "records"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i, image in enumerate(images):
            example = tf.train.Example.FromString(encoding.to_example(Picture("train", i, str(i), image, 0), image))
            del example.features.feature[examples.IMAGE_SIZE]
            writer.write(example.SerializeToString())
    with pytest.raises(DataError, match="images of different sizes, up to 64x64, and no feature `image_size`"):
        inputs.read(TrainerSettings(), [str(path)], [])


def crops(images: StoredImages, numbers: tf.Tensor, **strengths) -> np.ndarray:
    settings = AugmentationSettings(**{**STILL, **strengths})
    return augmentation.random_views(images, [numbers], settings, (24, 24)).numpy()


def test_a_crop_is_the_same_on_any_canvas(images):
    numbers = augmentation.uniform_numbers(3, 0, tf.constant(0), len(images))
    canvases = np.full((len(images), 100, 80, 3), 1, np.uint8)
    for canvas, image in zip(canvases, images, strict=True):
        canvas[: image.shape[0], : image.shape[1]] = image
    shapes = np.array([image.shape[:2] for image in images], np.float32)
    found = crops(StoredImages(tf.constant(canvases), tf.constant(shapes)), numbers, crop_scale=(0.1, 1.0))
    for i, image in enumerate(images):
        (alone,) = crops(StoredImages.whole(tf.constant(image[None])), numbers[i : i + 1], crop_scale=(0.1, 1.0))
        np.testing.assert_allclose(found[i], alone, atol=1e-4)
    # Nothing of the canvas, which is almost black, is in a crop.
    assert found.min() > 50 / 255


def test_a_crop_keeps_its_ratio_on_images_that_are_not_square():
    # Values rise by 1 for each pixel to the right and downwards.
    height, width = 60, 180
    pixels = np.zeros((1, height, width, 3), np.float32)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    numbers = augmentation.uniform_numbers(0, 0, tf.constant(0), 200)
    image = StoredImages.whole(tf.constant(np.repeat(pixels, 200, axis=0)))
    found = 255 * crops(image, numbers, crop_scale=(0.05, 1.0), crop_ratio=(0.75, 4 / 3))
    across, down = found[:, 0, -1, 0] - found[:, 0, 0, 0], found[:, -1, 0, 1] - found[:, 0, 0, 1]
    ratios = (across + 1) / (down + 1)
    assert ratios.min() > 0.72
    assert ratios.max() < 1.4
    assert down.max() > 55


def test_records_that_are_no_images_are_refused_by_file_and_reason(tmp_path, images):
    (good,) = write(tmp_path / "good", images, 32)
    content = Path(good).read_bytes()
    (tmp_path / "cut").write_bytes(content[:-500])
    (tmp_path / "packed").write_bytes(gzip.compress(content))
    for name in ("cut", "packed"):
        with pytest.raises(DataError, match=rf"{name} is damaged, cut off or compressed"):
            data.survey([good, str(tmp_path / name)])

    def changed(name: str, change) -> list[str]:
        with tf.io.TFRecordWriter(str(tmp_path / name)) as writer:
            example = tf.train.Example.FromString(next(tf.data.TFRecordDataset(good).as_numpy_iterator()))
            change(example.features.feature)
            writer.write(example.SerializeToString())
        return [str(tmp_path / name)]

    def forget_height(features) -> None:
        del features["height"]

    def encode(features) -> None:
        features["image"].bytes_list.value[0] = tf.io.encode_jpeg(images[0]).numpy()

    def name_the_class(features) -> None:
        features["label"].Clear()
        features["label"].bytes_list.value.append(b"cat")

    with pytest.raises(DataError, match=r"is not an image as nnclr ingest writes it: .*height"):
        data.survey(changed("lacks", forget_height))
    with pytest.raises(DataError, match="does not have 3 bytes for each of height x width pixels"):
        data.survey(changed("jpeg", encode))
    with pytest.raises(DataError, match=r"is not an image as nnclr ingest writes it: .*label"):
        data.survey(changed("text", name_the_class), labelled=True)


@pytest.mark.parametrize("label", [-1, 1_000_000])
def test_labels_that_are_no_classes_are_refused(tmp_path, images, label):
    files = write(tmp_path / "records", images, 32)
    with tf.io.TFRecordWriter(str(tmp_path / "labelled")) as writer:
        for i, image in enumerate(images):
            picture = Picture("train", i, str(i), image, label if i == 5 else 0)
            writer.write(encoding.to_example(picture, image, 32))
    with pytest.raises(
        DataError, match=rf"labels of the split `train` go from {min(label, 0)} to {max(label, 0)}, and only"
    ):
        inputs.read(TrainerSettings(), files, [str(tmp_path / "labelled")])
