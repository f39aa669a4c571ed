"""The trainer's settings: one typed tree, independent of where its values come from."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Strength = Annotated[float, Field(ge=0, le=1)]
Units = Annotated[int, Field(gt=0)]


class Strict(BaseModel):
    """Settings refuse unknown fields and cannot change after they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Augmentation(Strict):
    """How strongly a view may differ from its image. The defaults are the Keras example's.

    `brightness`, `contrast` and `saturation` are the half-width of a factor drawn around 1; `hue` is the largest
    rotation as a fraction of the colour circle; `grey` is a probability.
    """

    crop_scale: tuple[float, float] = Field((0.2, 1.0), description="share of the image's area that a crop keeps")
    crop_ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="width / height of a crop")
    flip: bool = Field(True, description="mirror half of the views from left to right")
    brightness: Strength = 0.5
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    grey: Strength = Field(0.0, description="probability of losing all colour")

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> "Augmentation":
        for name, (low, high), top in (
            ("crop_scale", self.crop_scale, 1.0),
            ("crop_ratio", self.crop_ratio, float("inf")),
        ):
            if not 0 < low <= high <= top:
                raise ValueError(f"{name} must be two rising numbers above 0{' up to 1' if top == 1 else ''}")
        return self


class Encoder(Strict):
    """Which network turns an image into its embedding."""

    name: Literal["convnet"] = Field("convnet", description="the Keras example's four strided convolutions")
    width: Units = Field(128, description="channels of each convolution, and length of the embedding")


class OnlineProbe(Strict):
    """A linear classifier trained beside the encoder, on stopped gradients, to watch the trend."""

    batch_size: Units = Field(25, description="labelled images a step, over all replicas")
    holdout: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="share of `train` that only validates")
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    augmentation: Augmentation = Augmentation(crop_scale=(0.5, 1.0), brightness=0.3)


class TrainerSettings(Strict):
    """NNCLR pretraining. The defaults are the Keras example's."""

    encoder: Encoder = Encoder()
    projection: list[Units] = Field([128, 128], min_length=1, description="units of the projection head's layers")
    support_set_size: Units = Field(10_000, description="projections that neighbours are searched in")
    temperature: Annotated[float, Field(gt=0)] = 0.1
    batch_size: Annotated[int, Field(gt=1)] = Field(500, description="unlabelled images a step, over all replicas")
    epochs: Annotated[int, Field(gt=0)] = Field(25, description="passes over the unlabelled images")
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    augmentation: Augmentation = Augmentation()
    online_probe: OnlineProbe = OnlineProbe()
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the encoder and the head; auto is bfloat16 where the hardware multiplies it natively"
    )
    shuffle_buffer: Units = Field(10_000, description="images held in memory for shuffling")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
