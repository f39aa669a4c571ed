"""DataGate's settings."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from trainer.config import Fraction, StrictModel


def _off(value: Any) -> Any:
    """Returns `off` for False, which is what YAML makes of the word."""
    return "off" if value is False else value


#: What becomes of a run whose images miss a bound.
Action = Annotated[
    Literal["off", "warn", "fail"],
    BeforeValidator(_off),
    WithJsonSchema({"type": "string", "enum": ["off", "warn", "fail"]}),
]
_Count = Annotated[int, Field(ge=0)]


class GateSettings(StrictModel):
    """What DataGate checks before the training. Each check is off, warns, or fails the run if its bound is missed."""

    anomalies: Action = Field(
        "fail", description="Check that ExampleValidator finds no anomalies: every value is within the schema's bounds."
    )
    split_size: Action = Field("warn", description="Check of the number of images in each split that has images.")
    min_split_size: _Count = Field(10, description="Least number of images in a split.")
    class_size: Action = Field("warn", description="Check of the number of images of each class in train and in test.")
    min_class_size: _Count = Field(5, description="Least number of images of a class in a labelled split.")
    class_imbalance: Action = Field("warn", description="Check that no class has many times the images of another one.")
    max_class_imbalance: Annotated[float, Field(ge=1)] = Field(
        100.0, description="Largest ratio of the images of the largest class to those of the smallest one in a split."
    )
    exact_duplicates: Action = Field("fail", description="Check of images whose pixels equal those of another one.")
    max_exact_duplicates: Fraction = Field(
        0.5, description="Largest share of a split's images that repeat another image of the split, pixel by pixel."
    )
    near_duplicates: Action = Field(
        "warn", description="Check of images that look like another one, as after recompression or resizing."
    )
    max_near_duplicates: Fraction = Field(
        0.2, description="Largest share of a split's images that look like another image of the split, or equal it."
    )
    constant: Action = Field("fail", description="Check of images of a single brightness, for instance black ones.")
    max_constant: Fraction = Field(0.5, description="Largest share of a split's images that are constant.")
    near_constant: Action = Field(
        "warn", description="Check of images of almost a single brightness: their contrast is below 0.02."
    )
    max_near_constant: Fraction = Field(0.1, description="Largest share of a split's images that are almost constant.")
    noise: Action = Field(
        "fail", description="Check of images that are noise: the correlation of neighbouring pixels is below 0.4."
    )
    max_noise: Fraction = Field(0.5, description="Largest share of a split's images that are noise.")
    brightness: Action = Field("warn", description="Check of the mean brightness of the images of a split.")
    min_brightness: Fraction = Field(0.05, description="Least mean brightness; black is 0.")
    max_brightness: Fraction = Field(0.95, description="Largest mean brightness; white is 1.")
    contrast: Action = Field(
        "warn", description="Check of the mean contrast of the images of a split: the standard deviation of brightness."
    )
    min_contrast: Fraction = Field(0.02, description="Least mean contrast.")
    max_contrast: Fraction = Field(
        0.45, description="Largest mean contrast; an image that is half black and half white has 0.5."
    )
    skew: Action = Field(
        "warn",
        description="Check that the labelled images are like the unlabelled ones: size, brightness, contrast and "
        "colour, by TFDV's skew comparator.",
    )
    max_skew: Fraction = Field(0.2, description="Largest Jensen-Shannon divergence of train or test from unlabelled.")
    drift: Action = Field(
        "warn",
        description="Check that the images are like those of the champion's run: size, brightness, contrast and "
        "colour, by TFDV's drift comparator.",
    )
    max_drift: Fraction = Field(
        0.2, description="Largest Jensen-Shannon divergence of a split from the same split of the champion's run."
    )

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> "GateSettings":
        for name in ("brightness", "contrast"):
            if getattr(self, f"min_{name}") > getattr(self, f"max_{name}"):
                raise ValueError(f"min_{name} must not be above max_{name}")
        return self
