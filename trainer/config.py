"""The trainer's settings: one typed tree, independent of where its values come from."""

from importlib import metadata
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from trainer.duration import Duration

Strength = Annotated[float, Field(ge=0, le=1)]
Units = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
# A probability of both views, or one of each: BYOL's views differ.
PerView = Annotated[
    tuple[Strength, Strength],
    BeforeValidator(lambda value: (value, value) if isinstance(value, int | float) else value),
]

CONVNET_CONVOLUTIONS = 4
BUILT_IN_ENCODERS = ("convnet", "resnet18", "resnet50")
# The value of warm_start that stands for the registry's champion.
CHAMPION = "champion"
# Where other installed packages declare encoders of their own (see trainer.encoders).
ENCODER_ENTRY_POINTS = "nnclr.encoders"

_Settings = TypeVar("_Settings", bound=BaseModel)

_AUGMENTATION_PRESETS: dict[str, dict[str, Any]] = {
    # keras.io/examples/vision/nnclr
    "keras-example": {"brightness": 0.5},
    # arXiv 2002.05709, appendix A, at its strength 1; blurs as its code does, in half of the views.
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


class Strict(BaseModel):
    """Settings refuse unknown fields and cannot change after they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def narrow(self, model: type[_Settings]) -> _Settings:
        """Returns only the settings that a parent class of these settings has.

        A component that is given no others does not run again when others change.
        """
        return model(**{name: getattr(self, name) for name in model.model_fields})


class Augmentation(Strict):
    """How strongly a view may differ from its image. What is left out comes from `preset`.

    `brightness`, `contrast` and `saturation` are the half-width of a factor drawn around 1; `hue` is the largest
    rotation as a fraction of the colour circle. `blur` and `solarise` may differ between the two views: [0.0, 0.2].
    """

    preset: Literal["keras-example", "simclr", "byol"] = "keras-example"
    crop_scale: tuple[float, float] = Field((0.2, 1.0), description="share of the image's area that a crop keeps")
    crop_ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="width / height of a crop")
    flip: bool = Field(True, description="mirror half of the views from left to right")
    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    jitter: Strength = Field(1.0, description="probability that brightness, contrast, saturation and hue change")
    grey: Strength = Field(0.0, description="probability of losing all colour")
    blur: PerView = Field((0.0, 0.0), description="probability of a Gaussian blur")
    blur_sigma: tuple[Positive, Positive] = Field((0.1, 2.0), description="its width, in pixels of an image of 224")
    solarise: PerView = Field((0.0, 0.0), description="probability of inverting what is brighter than a half")

    @model_validator(mode="before")
    @classmethod
    def _start_from_the_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return _AUGMENTATION_PRESETS.get(given.get("preset", "keras-example"), {}) | given

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> "Augmentation":
        for name, (low, high), top in (
            ("crop_scale", self.crop_scale, 1.0),
            ("crop_ratio", self.crop_ratio, float("inf")),
            ("blur_sigma", self.blur_sigma, float("inf")),
        ):
            if not 0 < low <= high <= top:
                raise ValueError(f"{name} must be two rising numbers above 0{' up to 1' if top == 1 else ''}")
        return self


class Encoder(Strict):
    """Which network turns an image into its embedding."""

    name: str = Field("convnet", description="convnet is the Keras example's; others come from installed packages")
    width: Units | list[Units] | None = Field(
        None,
        description="channels of the convnet's convolutions, one or four numbers (128), or a ResNet's first stage (64)",
    )
    batch_norm: bool = Field(False, description="normalise after each convolution of the convnet; ResNets always do")
    pooling: Literal["flatten", "average"] = Field(
        "flatten", description="how the convnet ends: a dense layer on all positions, or the mean over them"
    )

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        known = [*BUILT_IN_ENCODERS, *(point.name for point in metadata.entry_points(group=ENCODER_ENTRY_POINTS))]
        if name not in known:
            raise ValueError(f"there are {', '.join(known)}")
        return name

    @model_validator(mode="after")
    def _widths_fit(self) -> "Encoder":
        if isinstance(self.width, list):
            if self.name.startswith("resnet"):
                raise ValueError(f"width of a {self.name} is one number: its later stages are multiples of it")
            if self.name == "convnet" and len(self.width) != CONVNET_CONVOLUTIONS:
                raise ValueError(f"width is one number or {CONVNET_CONVOLUTIONS}, not {len(self.width)}")
        return self


class Head(Strict):
    """Dense layers, ReLU between them."""

    units: list[Units] = Field(min_length=1)
    batch_norm: bool = False


class MultiCrop(Strict):
    """Small views besides the two (arXiv 2006.09882, section 3.2): they are compared with the two views' neighbours."""

    views: Annotated[int, Field(ge=0)] = Field(0, description="how many; 0 is none")
    size: Strength = Field(0.43, description="height and width as a share of the image's (96 of 224 in the paper)")
    scale: tuple[float, float] = Field((0.05, 0.14), description="share of the image's area that such a view keeps")


class ProgressiveResizing(Strict):
    """Smaller views at first, which make cheaper steps, and whole ones at the end (arXiv 2104.00298, section 4)."""

    size: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="height and width of the first views as a share of the image's; 1 is off"
    )
    until: Strength = Field(0.75, description="share of the training that has them")


class Optimizer(Strict):
    """How the weights are updated."""

    name: Literal["adam", "adamw", "sgd", "lars"] = "adam"
    learning_rate: Positive = Field(1e-3, description="the peak; see scale_to")
    scale_to: Units | None = Field(
        None, description="learning_rate is meant for this many images a step and scaled linearly to batch_size"
    )
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: Duration = Field("0 epochs", description="linear rise of the learning rate from 0, part of the training")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of sgd and lars")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="of adamw, sgd and lars; never on biases and batch norm"
    )
    clip_norm: Positive | None = Field(None, description="longest gradient, over all weights together")

    @model_validator(mode="after")
    def _decay_is_used(self) -> "Optimizer":
        if self.name == "adam" and self.weight_decay:
            raise ValueError("adam has no weight_decay: take adamw, or leave it at 0")
        return self

    def peak(self, batch_size: int) -> float:
        """The highest learning rate for steps of `batch_size` images."""
        return self.learning_rate * (batch_size / self.scale_to if self.scale_to else 1.0)


class OnlineProbe(Strict):
    """A linear classifier trained beside the encoder, on stopped gradients, to watch the trend."""

    batch_size: Units = Field(25, description="labelled images a step, over all replicas")
    holdout: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="share of `train` that only validates")
    learning_rate: Positive = 1e-3
    augmentation: Augmentation = Augmentation(crop_scale=(0.5, 1.0), brightness=0.3)


class Watch(Strict):
    """What is measured now and then on fixed images, and when it ends the training."""

    every: Duration = Field("1 epochs", description="also how often history.csv gets a row")
    images: Annotated[int, Field(ge=2)] = Field(1_000, description="of each kind: unlabelled, train, held out")
    collapse_std: Strength = Field(
        0.01, description="collapsed below this standard deviation of projections, where 1 is evenly spread; 0 is off"
    )
    collapse_rank: Annotated[float, Field(ge=0)] = Field(
        1.5, description="collapsed below this RankMe (effective rank) of embeddings; 0 is off"
    )
    patience: Units = Field(3, description="measurements in a row that must say so")


class Checkpoint(Strict):
    """How often the whole state of the training is saved."""

    every: Duration = "1 epochs"
    keep: Annotated[int, Field(ge=1)] = Field(2, description="the newest so many")


class TrainerSettings(Strict):
    """NNCLR pretraining. The defaults are the Keras example's."""

    encoder: Encoder = Encoder()
    projection: Head = Head(units=[128, 128])
    prediction: Head = Field(Head(units=[128, 128]), description="used by neighbour: paper alone")
    neighbour: Literal["paper", "straight_through", "none"] = Field(
        "straight_through",
        description="paper: no gradient through the neighbour, prediction head; straight_through: the Keras example's; "
        "none: SimCLR",
    )
    top_k: Units = Field(1, description="the neighbour is drawn from this many nearest")
    support_set_size: Units = Field(10_000, description="projections that neighbours are searched in")
    temperature: Positive = 0.1
    multi_crop: MultiCrop = MultiCrop()
    progressive_resizing: ProgressiveResizing = ProgressiveResizing()
    batch_size: Annotated[int, Field(gt=1)] = Field(500, description="unlabelled images a step, over all replicas")
    accumulate: Units = Field(
        1, description="parts that a batch is worked on one after the other: less memory, negatives from one part"
    )
    epochs: Annotated[int, Field(gt=0)] = Field(25, description="passes over the unlabelled images")
    duration: Duration | None = Field(None, description="instead of epochs: `5000 steps`, `1e6 examples`")
    optimizer: Optimizer = Optimizer()
    augmentation: Augmentation = Augmentation()
    online_probe: OnlineProbe = OnlineProbe()
    watch: Watch = Watch()
    checkpoint: Checkpoint = Checkpoint()
    warm_start: str | None = Field(
        None,
        description=f"`{CHAMPION}`, or the folder of an exported encoder to start from; only its weights are taken",
    )
    devices: Literal["auto", "gpu", "cpu"] = Field(
        "auto", description="auto: every GPU, or the CPU if there is none; gpu: never the CPU; cpu: never a GPU"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the encoder and the heads; auto is bfloat16 where the hardware multiplies it natively"
    )
    xla: bool = Field(False, description="compile the encoder with XLA; for one GPU alone")
    shuffle_buffer: Units = Field(10_000, description="images held in memory for shuffling")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _parts_fit(self) -> "TrainerSettings":
        if self.neighbour == "paper" and self.prediction.units[-1] != self.projection.units[-1]:
            raise ValueError(
                f"prediction.units ends with {self.prediction.units[-1]} and projection.units with "
                f"{self.projection.units[-1]}: predictions are compared with projections, so both must be the same"
            )
        if self.top_k > self.support_set_size:
            raise ValueError(f"top_k is {self.top_k}, and the support set has only {self.support_set_size} members")
        if self.encoder.name == "convnet" and self.encoder.pooling == "flatten":
            for name, used in (
                ("multi_crop", self.multi_crop.views > 0),
                ("progressive_resizing", self.progressive_resizing.size < 1),
            ):
                if used:
                    raise ValueError(f"{name} needs an encoder for images of any size: set encoder.pooling to average")
        return self

    @property
    def length(self) -> Duration:
        """How long to train."""
        return self.duration or f"{self.epochs} epochs"
