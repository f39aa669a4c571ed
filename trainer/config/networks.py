"""The settings of encoders, heads and pretrained networks."""

from collections.abc import Callable, Collection
from importlib import metadata
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from trainer import built_in_encoders
from trainer.config.base import StrictModel

CONVNET_CONVOLUTIONS = 4
# The number of channels or units of a layer. Keras fails without a sentence at numbers that no machine has room for.
LayerSize = Annotated[int, Field(gt=0, le=65_536)]
# The value of weights that stands for those that Keras downloads.
IMAGENET = "imagenet"
# How the name of an encoder starts that is a network of keras.applications.
KERAS = "keras:"
# How pixels may be scaled for a network.
Preprocessing = Literal["unit", "tf", "torch", "caffe", "none"]


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
    batch_norm_statistics: Literal["auto", "pretrained", "batch"] = Field(
        "auto",
        description="The statistics by which the encoder's batch norm normalises during training: pretrained keeps "
        "those that come with the weights that training starts from, batch computes those of each batch; auto is "
        "pretrained with `weights` and for a .keras file or a folder, and batch otherwise. Frozen layers always keep "
        "theirs.",
    )
    width: LayerSize | list[LayerSize] | None = Field(
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
        "with the means and the maxima of all four convolutions side by side (layers).",
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
    _start: ClassVar[frozenset[str]] = frozenset({"weights", "frozen", "batch_norm_statistics"})

    @property
    def is_path(self) -> bool:
        """Whether the encoder is a Keras model in a file or folder."""
        return _is_path(self.name)

    @property
    def is_of_keras(self) -> bool:
        """Whether the encoder is a network of Keras, whose architecture is written beside an exported encoder."""
        return self.is_path or self.name.startswith(KERAS)

    @property
    def is_pretrained(self) -> bool:
        """Whether the network comes with weights that somebody else trained."""
        return self.weights is not None or self.is_path

    @property
    def keeps_statistics(self) -> bool:
        """Whether batch norm keeps the statistics that training starts from."""
        if self.batch_norm_statistics == "auto":
            return self.is_pretrained
        return self.batch_norm_statistics == "pretrained"

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

    units: list[LayerSize] = Field([128, 128], min_length=1, description="The number of units of each dense layer.")
    batch_norm: bool = Field(
        False, description="The dense layers are batch-normalised, except the last layer of the prediction head."
    )
