"""The sizes of an image's views, in pixels as (height, width)."""

import keras

from trainer.config import TrainerSettings
from trainer.errors import SettingsError
from trainer.plan import Plan


def whole_view_size(settings: TrainerSettings, plan: Plan, image_size: tuple[int, int], step: int) -> tuple[int, int]:
    """Returns the size of the first two views in the update after `step` steps."""
    if step >= plan.smaller_views:
        return image_size
    return smaller_view_size(settings, image_size)


def smaller_view_size(settings: TrainerSettings, image_size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size of the first two views in the first part of the training."""
    return _scaled(image_size, settings.progressive_resizing.size)


def small_view_size(settings: TrainerSettings, image_size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size of the small views of multi-crop."""
    return _scaled(image_size, settings.multi_crop.size)


def require_views_fit(settings: TrainerSettings, encoder: keras.Model, image_size: tuple[int, int]) -> None:
    """Demands that the encoder can take views of every configured size.

    Raises:
        SettingsError: If a size is too small.
    """
    for name, share in (
        ("multi_crop.size", settings.multi_crop.size if settings.multi_crop.views else 1.0),
        ("progressive_resizing.size", settings.progressive_resizing.size),
    ):
        height, width = _scaled(image_size, share)
        own = encoder.input_shape[1:3]
        if None not in own and own != (height, width):
            raise SettingsError(
                f"trainer.{name} needs an encoder for images of any size, and {settings.encoder.name} takes images of "
                f"{own[0]}x{own[1]} pixels only: leave it out, or choose another encoder."
            )
        try:
            encoder.compute_output_shape((None, height, width, 3))
        except ValueError as error:
            raise SettingsError(
                f"trainer.{name} is {share}, and views of {height}x{width} pixels are too small for the encoder "
                f"{settings.encoder.name}: make it larger."
            ) from error


def _scaled(size: tuple[int, int], share: float) -> tuple[int, int]:
    height, width = (max(round(length * share), 1) for length in size)
    return height, width
