"""The trainer's settings: one typed tree, independent of where its values come from."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from trainer import storage
from trainer.config.augmentation import AugmentationSettings, ProbeAugmentationSettings
from trainer.config.base import Fraction, StrictModel, require_range
from trainer.config.networks import EncoderSettings, HeadSettings
from trainer.duration import Duration, PositiveDuration
from trainer.time_limit import TimeLimit

# What an image is compared with; see trainer.losses.
Neighbour = Literal["paper", "straight_through", "none"]

# The negatives of an image are the other images of its part of the batch.
_LEAST_ROWS = 2
# The value of warm_start that stands for the registry's champion.
CHAMPION = "champion"


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
        require_range("scale", self.scale, 1.0)
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
        "clearly faster than float32, and otherwise float32.",
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
        if self.encoder.keeps_statistics and not self._has_a_start:
            raise ValueError(
                "encoder.batch_norm_statistics is pretrained, and training starts from random weights, which have no "
                "statistics of images: set encoder.weights or warm_start, or encoder.batch_norm_statistics to auto"
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
