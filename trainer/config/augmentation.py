"""The settings of the augmentation."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from trainer.config.base import Fraction, StrictModel, require_range

# One probability for both views or one for each, because BYOL's two views differ.
PerView = Annotated[
    tuple[Fraction, Fraction],
    BeforeValidator(
        lambda value: (value, value) if isinstance(value, int | float) else value,
        json_schema_input_type=Fraction | tuple[Fraction, Fraction],
    ),
]

_AUGMENTATION_PRESETS: dict[str, dict[str, Any]] = {
    # keras.io/examples/vision/nnclr
    "keras-example": {"brightness": 0.5},
    # arXiv 2002.05709, appendix A, at strength 1. As in the paper's code, half of the views are blurred.
    "simclr": {
        **{"crop_scale": (0.08, 1.0), "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2},
        **{"jitter": 0.8, "grey": 0.2, "blur": (0.5, 0.5)},
    },
    # arXiv 2006.07733, appendix B, table 6.
    "byol": {
        **{"crop_scale": (0.08, 1.0), "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1},
        **{"jitter": 0.8, "grey": 0.2, "blur": (1.0, 0.1), "solarise": (0.0, 0.2)},
    },
}


class AugmentationSettings(StrictModel):
    """Strength of the random changes that turn an image into a view. Fields that are not given come from `preset`."""

    preset: Literal["keras-example", "simclr", "byol"] = Field(
        "keras-example", description="The published recipe that supplies all augmentation settings that are not given."
    )
    crop_scale: tuple[float, float] = Field(
        (0.2, 1.0), description="Each crop keeps a random share of the image's area from this range."
    )
    crop_ratio: tuple[float, float] = Field(
        (3 / 4, 4 / 3), description="Each crop has a random ratio of width to height from this range."
    )
    flip: bool = Field(True, description="Half of the views are mirrored from left to right.")
    brightness: Fraction = Field(
        0.0, description="Brightness is multiplied by a random factor between 1 minus and 1 plus this value."
    )
    contrast: Fraction = Field(
        0.0, description="Contrast is multiplied by a random factor between 1 minus and 1 plus this value."
    )
    saturation: Fraction = Field(
        0.0, description="Saturation is multiplied by a random factor between 1 minus and 1 plus this value."
    )
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="Hue is rotated by at most this fraction of the colour circle, in either direction."
    )
    jitter: Fraction = Field(
        1.0, description="Brightness, contrast, saturation and hue of a view change with this probability."
    )
    grey: Fraction = Field(0.0, description="A view becomes greyscale with this probability.")
    blur: PerView = Field(
        (0.0, 0.0),
        description="A view is blurred with this probability; two values apply to the first and the second view.",
    )
    blur_sigma: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.1, 2.0),
        description="The standard deviation of the Gaussian blur is drawn from this range, in pixels of an image of "
        "224 pixels.",
    )
    solarise: PerView = Field(
        (0.0, 0.0),
        description="Values above one half are inverted with this probability; two values apply to the first and the "
        "second view.",
    )

    # Values of an augmentation that names no preset, where they are not the fields' defaults.
    _without_preset: ClassVar[dict[str, Any]] = _AUGMENTATION_PRESETS["keras-example"]

    @model_validator(mode="before")
    @classmethod
    def _start_from_the_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        start = _AUGMENTATION_PRESETS.get(given["preset"], {}) if "preset" in given else cls._without_preset
        return start | given

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> "AugmentationSettings":
        require_range("crop_scale", self.crop_scale, 1.0)
        require_range("crop_ratio", self.crop_ratio)
        require_range("blur_sigma", self.blur_sigma)
        return self


class ProbeAugmentationSettings(AugmentationSettings):
    """Weaker augmentation, which the Keras example uses for labelled images."""

    _without_preset = {"crop_scale": (0.5, 1.0), "brightness": 0.3}
