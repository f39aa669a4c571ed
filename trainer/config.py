"""The trainer's settings: one typed tree, independent of where its values come from."""

import math
from collections.abc import Callable, Collection
from importlib import metadata
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from trainer import built_in_encoders, storage
from trainer.duration import Duration, PositiveDuration
from trainer.time_limit import TimeLimit

Fraction = Annotated[float, Field(ge=0, le=1)]
# One probability for both views or one for each, because BYOL's two views differ.
PerView = Annotated[
    tuple[Fraction, Fraction],
    BeforeValidator(
        lambda value: (value, value) if isinstance(value, int | float) else value,
        json_schema_input_type=Fraction | tuple[Fraction, Fraction],
    ),
]

# What an image is compared with; see trainer.losses.
Neighbour = Literal["paper", "straight_through", "none"]

CONVNET_CONVOLUTIONS = 4
# The negatives of an image are the other images of its part of the batch.
_LEAST_ROWS = 2
# The value of warm_start that stands for the registry's champion.
CHAMPION = "champion"
# The value of weights that stands for those that Keras downloads.
IMAGENET = "imagenet"
# How the name of an encoder starts that is a network of keras.applications.
KERAS = "keras:"
# How pixels may be scaled for a network.
Preprocessing = Literal["unit", "tf", "torch", "caffe", "none"]

_Settings = TypeVar("_Settings", bound=BaseModel)

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


class StrictModel(BaseModel):
    """Base of all settings: refuses unknown fields and cannot be changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def narrow(self, model: type[_Settings]) -> _Settings:
        """Returns only the settings that a parent class of these settings has.

        A component that is given no others does not run again when others change.
        """
        return model(**{name: getattr(self, name) for name in model.model_fields})


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
        _require_range("crop_scale", self.crop_scale, 1.0)
        _require_range("crop_ratio", self.crop_ratio)
        _require_range("blur_sigma", self.blur_sigma)
        return self


def _require_range(name: str, ends: tuple[float, float], top: float = math.inf) -> None:
    low, high = ends
    if not 0 < low <= high <= top or math.isinf(high):
        raise ValueError(f"{name} must be two rising numbers above 0{' up to 1' if top == 1 else ''}")


def _is_path(network: str) -> bool:
    return "/" in network or network.endswith(".keras")


class EncoderSettings(StrictModel):
    """The network that turns an image into its embedding."""

    name: str = Field(
        "convnet",
        description="The encoder's architecture: convnet (the Keras example's), resnet18, resnet50, "
        "efficientnet-lite0, vit-tiny, vit-small; keras: and the name of a network of keras.applications, such as "
        "keras:MobileNetV3Small; "
        "the path, with a slash in it, of a .keras file or of a folder with a Keras model, which training starts from; "
        "or an encoder from an installed package.",
    )
    weights: str | None = Field(
        None,
        description="Training starts from these weights: a file of the same network (.weights.h5 or .h5) or, for a "
        "network of keras.applications, imagenet, which Keras downloads; null is random weights. A .keras file or a "
        "folder has its own.",
    )
    frozen: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="This share of the encoder's layers, counted from the image, keeps the weights that training "
        "starts from, which saves their part of the backward pass.",
    )
    width: PositiveInt | list[PositiveInt] | None = Field(
        None,
        description="The number of channels: for a convnet, one number for all four convolutions or four numbers (128 "
        "if null); for a ResNet, the number of its first stage (64 if null).",
    )
    batch_norm: bool = Field(
        False, description="The convnet normalises after each convolution; ResNets always normalise."
    )
    pooling: Literal["flatten", "average", "layers"] = Field(
        "flatten",
        description="The convnet ends with a dense layer on all positions (flatten), with their mean (average), or "
        "with the means of all four convolutions side by side (layers).",
    )
    patch: PositiveInt = Field(16, description="The height and width of a ViT's patches, in pixels.")
    options: dict[str, int | float | str | bool] = Field(
        {},
        description="Further arguments of the function in keras.applications, for instance {alpha: 0.35}.",
    )
    preprocessing: Preprocessing | None = Field(
        None,
        description="The scale of the pixels that a network of Keras takes, as in evaluator.references.pretrained. If "
        "null, its own for a network of keras.applications, and unit for a .keras file or a folder.",
    )

    # How a training starts; every encoder has these settings, and others belong to some encoders only.
    _start: ClassVar[frozenset[str]] = frozenset({"weights", "frozen"})

    @property
    def is_path(self) -> bool:
        """Whether the encoder is a Keras model in a file or folder."""
        return _is_path(self.name)

    @property
    def is_of_keras(self) -> bool:
        """Whether the encoder is a network of Keras, whose architecture is written beside an exported encoder."""
        return self.is_path or self.name.startswith(KERAS)

    @property
    def may_bring_weights(self) -> bool:
        """Whether the network may come with weights of its own, which nnclr does not know."""
        return self.is_path or not (self.name in built_in_encoders.BUILT_IN or self.is_of_keras)

    @property
    def application(self) -> str:
        """The name of the network in keras.applications."""
        return self.name.removeprefix(KERAS)

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of the network or of its weights, if it has one."""
        path = self.name if self.is_path else self.weights
        return () if path in (None, IMAGENET) else (path,)

    @property
    def architecture(self) -> "EncoderSettings":
        """These settings without those that say how the training starts."""
        return self.model_copy(update={name: type(self).model_fields[name].default for name in self._start})

    @property
    def of_architecture(self) -> dict[str, Any]:
        """The settings that this architecture uses and that have a value."""
        return self.model_dump(exclude_none=True, include={"name", *self._own_settings()} - self._start)

    def at(self, place: Callable[[str], str]) -> "EncoderSettings":
        """Returns these settings with their path changed by a function, for instance to an absolute one."""
        if not self.paths:
            return self
        return self.model_copy(update={"name" if self.is_path else "weights": place(self.paths[0])})

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        own = [point.name for point in metadata.entry_points(group=built_in_encoders.GROUP)]
        known = [*built_in_encoders.BUILT_IN, *own]
        if not (name in known or name.startswith(KERAS) or _is_path(name)):
            raise ValueError(
                f"Choose one of {', '.join(known)}, {KERAS}NAME for a network of keras.applications, or a path with a "
                "slash in it"
            )
        return name

    @model_validator(mode="after")
    def _settings_are_used(self) -> "EncoderSettings":
        used = {"name", *self._start, *self._own_settings()}
        unused = [
            name
            for name, field in type(self).model_fields.items()
            if name not in used and getattr(self, name) != field.default
        ]
        if unused:
            defaults = ", ".join(f"{name}: {_as_yaml(type(self).model_fields[name].default)}" for name in unused)
            raise ValueError(
                f"The encoder {self.name} does not use {' and '.join(unused)}: leave it out or, if a preset sets it, "
                f"set {defaults}"
            )
        if self.is_path and self.weights is not None:
            raise ValueError(f"weights are for other encoders, because {self.name} has its own: set weights to null")
        if self.weights == IMAGENET and not self.name.startswith(KERAS):
            raise ValueError(
                f"Only networks of keras.applications have the weights {IMAGENET}: name a file with weights of "
                f"{self.name}, or set weights to null"
            )
        return self

    def _own_settings(self) -> Collection[str]:
        if self.is_path:
            return {"preprocessing"}
        if self.is_of_keras:
            return {"preprocessing", "options"}
        known = built_in_encoders.BUILT_IN.get(self.name)
        # An encoder of an installed package may use any of them.
        return known.settings if known else type(self).model_fields

    @model_validator(mode="after")
    def _widths_fit(self) -> "EncoderSettings":
        if isinstance(self.width, list):
            if self.name.startswith("resnet"):
                raise ValueError(f"width of a {self.name} is one number: its later stages are multiples of it")
            if self.name == "convnet" and len(self.width) != CONVNET_CONVOLUTIONS:
                raise ValueError(f"width is one number or {CONVNET_CONVOLUTIONS}, not {len(self.width)}")
        return self


def _as_yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower()


class PretrainedSettings(StrictModel):
    """A network that somebody else pretrained."""

    network: str = Field(
        ...,
        min_length=1,
        description="A network of keras.applications, such as EfficientNetB0; or the path, with a slash in it, of a "
        ".keras file, a folder with a Keras model, or a SavedModel.",
    )
    weights: str = Field(
        IMAGENET,
        description="For a network of keras.applications: imagenet, which Keras downloads, or the path of a file "
        "with weights (.weights.h5 or .h5).",
    )
    options: dict[str, int | float | str | bool] = Field(
        {}, description="Further arguments of the function in keras.applications, for instance {alpha: 0.35}."
    )
    size: PositiveInt | None = Field(
        None, description="The height and width of the images that it is given, in pixels; its own size if null."
    )
    preprocessing: Preprocessing | None = Field(
        None,
        description="The scale of the pixels that it takes: unit is 0 to 1, tf is -1 to 1, none is 0 to 255, and torch "
        "and caffe are those of these libraries' ImageNet networks. If null, that of keras.applications for its "
        "networks, and unit for others.",
    )
    name: str | None = Field(None, min_length=1, description="The name in reports; by default that of the network.")

    @property
    def is_path(self) -> bool:
        """Whether `network` is a path and no name of keras.applications."""
        return _is_path(self.network)

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of the network or of its weights, if it has one."""
        return (self.network,) if self.is_path else () if self.weights == IMAGENET else (self.weights,)

    def at(self, place: Callable[[str], str]) -> "PretrainedSettings":
        """Returns these settings with their path changed by a function, for instance to an absolute one."""
        if self.is_path:
            return self.model_copy(update={"network": place(self.network), "name": self.title})
        return self if self.weights == IMAGENET else self.model_copy(update={"weights": place(self.weights)})

    @property
    def title(self) -> str:
        """The name in reports."""
        return self.name or self.network.rstrip("/").rpartition("/")[2].removesuffix(".keras")

    @model_validator(mode="after")
    def _options_are_used(self) -> "PretrainedSettings":
        if self.is_path and (self.weights != IMAGENET or self.options):
            raise ValueError(
                f"weights and options are for networks of keras.applications, and {self.network} is a path"
            )
        return self


class HeadSettings(StrictModel):
    """A stack of dense layers with ReLU between them."""

    units: list[PositiveInt] = Field([128, 128], min_length=1, description="The number of units of each dense layer.")
    batch_norm: bool = Field(
        False, description="The dense layers are batch-normalised, except the last layer of the prediction head."
    )


class MultiCropSettings(StrictModel):
    """Additional small views, which are compared with the neighbours of both views (arXiv 2006.09882, section 3.2)."""

    views: Annotated[int, Field(ge=0)] = Field(0, description="The number of small views of each image; 0 is off.")
    size: Annotated[float, Field(gt=0, le=1)] = Field(
        0.43, description="The height and width of a small view as a share of the image's (96 of 224 in the paper)."
    )
    scale: tuple[float, float] = Field(
        (0.05, 0.14), description="A small view keeps a random share of the image's area from this range."
    )

    @model_validator(mode="after")
    def _range_is_ordered(self) -> "MultiCropSettings":
        _require_range("scale", self.scale, 1.0)
        return self


class MomentumEncoderSettings(StrictModel):
    """A moving average of encoder and projection head (arXiv 1911.05722, section 3.2), which gives the keys.

    The neighbours of its projections are searched, and the support set holds its projections.
    """

    momentum: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="The share of the average that the first step keeps, for instance 0.99; it rises to 1 as half a "
        "cosine (arXiv 2006.07733, section 3.3). Without a momentum encoder (null), projections are the keys.",
    )
    export: Literal["online", "momentum"] = Field(
        "online", description="The encoder that is measured and exported: the trained one, or its average."
    )

    @model_validator(mode="after")
    def _export_exists(self) -> "MomentumEncoderSettings":
        if self.export == "momentum" and self.momentum is None:
            raise ValueError("export is momentum, but momentum is null: set momentum, for instance to 0.99")
        return self


class ProgressiveResizingSettings(StrictModel):
    """Smaller views, and so faster steps, in the first part of the training (arXiv 2104.00298, section 4)."""

    size: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="The height and width of the smaller views as a share of the image's; 1 is off."
    )
    until: Fraction = Field(0.75, description="The share of the training's steps that use smaller views.")


class OptimizerSettings(StrictModel):
    """The optimiser of encoder and heads, and its learning rate."""

    name: Literal["adam", "adamw", "sgd", "lars"] = Field("adam", description="The optimisation algorithm.")
    learning_rate: PositiveFloat = Field(1e-3, description="The highest learning rate, before `scale_to` applies.")
    scale_to: PositiveInt | None = Field(
        None,
        description="The batch size that `learning_rate` was chosen for: the rate is multiplied by trainer.batch_size "
        "divided by this number. The rate is used unchanged if null.",
    )
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="After the warm-up, the learning rate stays constant or falls to 0 as half a cosine."
    )
    warmup: Duration = Field(
        "0 epochs", description="The learning rate rises linearly from 0 for this long, which is part of the training."
    )
    first_layer_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="The learning rate of the encoder's first trained layer as a share of that of the heads; the "
        "shares of the layers between rise geometrically (layer-wise decay, arXiv 2003.10555, appendix A). 1 is off.",
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="The momentum of sgd and lars.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="The weight decay of adamw, decoupled as in its paper, and of sgd and lars, part of the gradient "
        "as in the published recipes; biases and batch norm never decay.",
    )
    clip_norm: PositiveFloat | None = Field(
        None, description="Longer gradients, over all weights together, are shortened to this norm; null is off."
    )

    @model_validator(mode="after")
    def _decay_is_used(self) -> "OptimizerSettings":
        if self.name == "adam" and self.weight_decay:
            raise ValueError("adam has no weight_decay: take adamw, or leave it at 0")
        return self

    def peak(self, batch_size: int) -> float:
        """Returns the highest learning rate for steps of `batch_size` images."""
        return self.learning_rate * (batch_size / self.scale_to if self.scale_to else 1.0)


class ProbeAugmentationSettings(AugmentationSettings):
    """Weaker augmentation, which the Keras example uses for labelled images."""

    _without_preset = {"crop_scale": (0.5, 1.0), "brightness": 0.3}


class OnlineProbeSettings(StrictModel):
    """A linear classifier that is trained beside the encoder, without influence on it, to show the trend."""

    batch_size: PositiveInt = Field(25, description="The number of labelled images in a step, over all devices.")
    holdout: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="The share of the split `train` that only validates the classifier."
    )
    learning_rate: PositiveFloat = Field(1e-3, description="The learning rate of the classifier's Adam optimiser.")
    augmentation: ProbeAugmentationSettings = Field(
        ProbeAugmentationSettings(), description="The augmentation of the labelled images."
    )


class WatchSettings(StrictModel):
    """Regular measurements on fixed images, and when they end the training."""

    every: PositiveDuration = Field(
        "1 epochs", description="The interval between measurements, each of which adds a row to history.csv."
    )
    images: Annotated[int, Field(ge=2)] = Field(
        1_000, description="The number of measured images of each kind: unlabelled, train and held out."
    )
    collapse_std: Fraction = Field(
        0.01,
        description="The encoder counts as collapsed if the standard deviation of its projections is below this value "
        "(1 means evenly spread); 0 is off.",
    )
    collapse_rank: Annotated[float, Field(ge=0)] = Field(
        1.5,
        description="The encoder counts as collapsed if the effective rank (RankMe) of its embeddings is below this "
        "value; 0 is off.",
    )
    patience: PositiveInt = Field(
        3, description="The training ends if this many measurements in a row say that the encoder collapsed."
    )


class CheckpointSettings(StrictModel):
    """How often the whole state of the training is saved."""

    every: PositiveDuration = Field("1 epochs", description="The interval between checkpoints.")
    keep: Annotated[int, Field(ge=1)] = Field(2, description="The number of latest checkpoints that are kept.")


class TrainerSettings(StrictModel):
    """Settings of an NNCLR pretraining. The defaults are the Keras example's (keras.io/examples/vision/nnclr)."""

    encoder: EncoderSettings = Field(
        EncoderSettings(), description="The network that turns an image into its embedding."
    )
    projection: HeadSettings = Field(
        HeadSettings(), description="The head that turns an embedding into its projection."
    )
    prediction: HeadSettings = Field(
        HeadSettings(),
        description="The head that predicts a projection; only `neighbour: paper` uses it.",
    )
    neighbour: Neighbour = Field(
        "straight_through",
        description="The loss: paper compares neighbours without gradient with predictions; straight_through passes "
        "the neighbour's gradient to the projection, as the Keras example does; none compares the views themselves "
        "(equation 1 of the NNCLR paper: SimCLR with the negatives of the other view only), without a support set.",
    )
    top_k: PositiveInt = Field(1, description="The neighbour is drawn from this many nearest members.")
    support_set_size: PositiveInt = Field(
        10_000, description="The number of recent projections in which neighbours are searched."
    )
    temperature: PositiveFloat = Field(0.1, description="Similarities are divided by this temperature in the loss.")
    momentum_encoder: MomentumEncoderSettings = Field(
        MomentumEncoderSettings(), description="A moving average of the encoder, which gives the keys."
    )
    multi_crop: MultiCropSettings = Field(MultiCropSettings(), description="Additional small views of each image.")
    progressive_resizing: ProgressiveResizingSettings = Field(
        ProgressiveResizingSettings(), description="Smaller views in the first part of the training."
    )
    batch_size: Annotated[int, Field(gt=1)] = Field(
        500, description="The number of unlabelled images in a step, over all devices."
    )
    accumulate: PositiveInt = Field(
        1,
        description="A batch is processed in this many parts, one after the other: this saves memory, but negatives "
        "come from one part only.",
    )
    epochs: Annotated[int, Field(gt=0)] = Field(25, description="The number of passes over the unlabelled images.")
    duration: PositiveDuration | None = Field(
        None, description="The length of the training instead of `epochs`: `5000 steps` or `1e6 examples`."
    )
    time_limit: TimeLimit | None = Field(
        None,
        description="The time for the training instead of `epochs`: its speed is measured first, and it gets as many "
        "steps as fit into this time. Ingest and evaluation are not part of it.",
    )
    optimizer: OptimizerSettings = Field(OptimizerSettings(), description="The optimiser of encoder and heads.")
    augmentation: AugmentationSettings = Field(
        AugmentationSettings(), description="The augmentation of the unlabelled images."
    )
    online_probe: OnlineProbeSettings = Field(
        OnlineProbeSettings(), description="A linear classifier that shows the trend during the training."
    )
    watch: WatchSettings = Field(
        WatchSettings(), description="Regular measurements, which end the training if the encoder collapsed."
    )
    checkpoint: CheckpointSettings = Field(
        CheckpointSettings(), description="How often the state of the training is saved."
    )
    warm_start: str | None = Field(
        None,
        description=f"Training starts from the weights of the registry's champion (`{CHAMPION}`) or of the exported "
        "encoder in this folder, local or gs://; null starts from random weights.",
    )
    from_checkpoint: str | None = Field(
        None,
        description="Training goes on from this checkpoint of a training with other settings or images, local or in a "
        "bucket, at its step, unless it has checkpoints of its own; null starts anew. The network must be the same.",
    )
    devices: Literal["auto", "gpu", "cpu"] = Field(
        "auto",
        description="Training uses every GPU, or the CPU if there is none (auto), only GPUs (gpu) or only the CPU "
        "(cpu).",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Encoder and heads compute in this precision; auto is bfloat16 if the hardware multiplies it "
        "natively, else float32.",
    )
    xla: bool = Field(False, description="The encoder is compiled with XLA, which works on a single device only.")
    shuffle_buffer: PositiveInt = Field(10_000, description="The number of images held in memory for shuffling.")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        0, description="The seed of the weights, the support set, the order of the images and their augmentation."
    )

    @field_validator("warm_start")
    @classmethod
    def _tensorflow_can_read(cls, warm_start: str | None) -> str | None:
        if warm_start and warm_start.startswith(storage.S3):
            raise ValueError(
                f"TensorFlow has no {storage.S3}: copy the encoder to a local folder or to {storage.CLOUD}"
            )
        return warm_start

    @model_validator(mode="after")
    def _parts_fit(self) -> "TrainerSettings":
        if self.neighbour == "paper" and self.prediction.units[-1] != self.projection.units[-1]:
            raise ValueError(
                f"prediction.units ends with {self.prediction.units[-1]} and projection.units with "
                f"{self.projection.units[-1]}: predictions are compared with projections, so both must be the same"
            )
        if self.time_limit and self.duration:
            raise ValueError(
                f"time_limit is {self.time_limit} and duration is {self.duration}, but the training can have only one "
                "length: set one of them to null"
            )
        if self.batch_size < _LEAST_ROWS * self.accumulate:
            raise ValueError(
                f"accumulate divides the batch of {self.batch_size} images into {self.accumulate} parts, but an image "
                f"has negatives only in a part of at least {_LEAST_ROWS} images: set accumulate to at most "
                f"{self.batch_size // _LEAST_ROWS}"
            )
        if self.neighbour == "none" and self.momentum_encoder.momentum is not None:
            raise ValueError(
                "momentum_encoder gives keys whose neighbours are searched, and neighbour is none: set neighbour to "
                "paper or straight_through, or momentum_encoder.momentum to null"
            )
        if self.encoder.frozen and not self._has_a_start:
            raise ValueError(
                f"encoder.frozen is {self.encoder.frozen}, and training starts from random weights, which would stay "
                "random: set encoder.weights or warm_start, or encoder.frozen to 0"
            )
        if self.top_k > self.support_set_size:
            raise ValueError(f"top_k is {self.top_k}, and the support set has only {self.support_set_size} members")
        if self.encoder.name == "convnet" and self.encoder.pooling == "flatten":
            for name, used in (
                ("multi_crop", self.multi_crop.views > 0),
                ("progressive_resizing", self.progressive_resizing.size < 1),
            ):
                if used:
                    raise ValueError(
                        f"{name} needs an encoder for images of any size: set encoder.pooling to average or layers"
                    )
        return self

    def at(self, place: Callable[[str], str]) -> "TrainerSettings":
        """Returns these settings with the encoder's path changed by a function, for instance to an absolute one."""
        return self.model_copy(update={"encoder": self.encoder.at(place)})

    @property
    def _has_a_start(self) -> bool:
        """Whether training may start from other weights than random ones."""
        encoder = self.encoder
        return encoder.may_bring_weights or bool(encoder.weights or self.warm_start or self.from_checkpoint)

    @property
    def length(self) -> Duration:
        """The length of the training, from `duration` or `epochs`."""
        return self.duration or f"{self.epochs} epochs"
