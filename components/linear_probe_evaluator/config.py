"""The evaluator's settings."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from trainer.config import Fraction, StrictModel
from trainer.config.networks import PretrainedSettings

#: The tolerance that follows the number of test images.
AUTO: Literal["auto"] = "auto"
Tolerance = Fraction | Literal["auto"]


class FineTuningSettings(StrictModel):
    """Fine-tuning of the whole encoder on the labelled images, as in the second half of the Keras example."""

    epochs: PositiveInt = Field(10, description="Number of passes over the labelled images of the split `train`.")
    batch_size: PositiveInt = Field(64, description="Number of labelled images per step, at most.")
    learning_rate: PositiveFloat = Field(1e-3, description="Learning rate of Adam, which is constant.")


class SupervisedSettings(StrictModel):
    """Training of the same architecture from scratch on the labelled images, for each number of labels."""

    seconds: PositiveFloat | None = Field(
        None,
        description="Longest time of the training for each number of labels, in seconds. If null, the time that the "
        "pretraining took.",
    )
    batch_size: PositiveInt = Field(64, description="Number of labelled images per step, at most.")
    learning_rate: PositiveFloat = Field(1e-3, description="Learning rate of Adam, which is constant.")
    patience: PositiveInt = Field(
        10,
        description="The training ends if the loss has not fallen in this many measurements, each after a pass over "
        "the images.",
    )


#: The setting that names pretrained networks, for errors.
REFERENCES = "evaluator.references.pretrained"
#: The name of the reference that is trained from scratch.
SUPERVISED = "supervised"
#: Names in reports that references cannot have, and what to set instead of naming them in must_beat.
_TAKEN = {
    "this encoder": "an encoder cannot beat itself",
    "untrained": "set evaluator.beat_untrained",
    "champion": "set evaluator.tolerance",
}


class ReferencesSettings(StrictModel):
    """Encoders that are measured as the new one is, to show what pretraining gained. Beside them, the untrained encoder
    and the champion are shown.
    """

    supervised: SupervisedSettings | None = Field(
        None,
        description="Settings of the training from scratch on the labelled images, for instance {}. If null, there is "
        "none.",
    )
    pretrained: tuple[PretrainedSettings, ...] = Field((), description="Networks that somebody else pretrained.")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the references in reports."""
        return (*([SUPERVISED] if self.supervised else []), *(network.title for network in self.pretrained))

    @model_validator(mode="after")
    def _names_differ(self) -> "ReferencesSettings":
        for name in self.names:
            if self.names.count(name) > 1 or name in _TAKEN:
                raise ValueError(f"two references are called {name!r}: give one of pretrained another name")
        return self


class EvaluatorSettings(StrictModel):
    """What is measured, and what an encoder must reach to be released. A requirement that is null is off."""

    data: str | None = Field(
        None,
        description="Separate labelled set to measure with, of any kind that data.source takes. If null, the labelled "
        "images of data.source.",
    )
    floor: Fraction | None = Field(None, description="Lowest probe accuracy of a blessed encoder. If null, any.")
    least_test_images: PositiveInt = Field(
        100,
        description="Least number of test images on which an encoder can be blessed. On 100 images, the 95 % interval "
        "of an accuracy is up to 20 points wide.",
    )
    tolerance: Tolerance | None = Field(
        AUTO,
        description="How far the probe accuracy may lie behind that of the champion, and behind that of the best "
        "release so far. The lower end of the paired 95 % interval of the difference must not be lower. `auto` follows "
        "the number of test images: the tolerance that an equally good encoder meets in 80 % of all cases, and at "
        "least 0.01. If null, the encoder is compared with neither.",
    )
    least_recall: Fraction | None = Field(
        None, description="Lowest recall of the probe in every single class. If null, any."
    )
    beat_untrained: bool = Field(
        True,
        description="Whether the probe accuracy must be significantly (95 %) higher than that of an untrained encoder "
        "of the same architecture.",
    )
    accept_baseline_reset: bool = Field(
        False,
        description="Whether an encoder may be released without a comparison if the champion cannot be read or does "
        "not embed the images.",
    )
    without_labels: Literal["refuse", "compare"] = Field(
        "refuse",
        description="Whether an encoder can be blessed if there are no labelled images. `refuse`: never. `compare`: if "
        "it recognises augmented unlabelled images significantly better than an untrained encoder (beat_untrained) and "
        "no worse than the champion (tolerance), which does not show whether it separates classes.",
    )
    neighbours: tuple[PositiveInt, ...] = Field(
        (20, 200), min_length=1, description="Numbers of neighbours k for which a kNN accuracy is reported."
    )
    label_shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.01, 0.1),
        description="Shares of the labels for which a probe's accuracy is reported, besides all labels.",
    )
    fine_tuning: FineTuningSettings | None = Field(
        None, description="Settings of the fine-tuning whose accuracy is reported. If null, nothing is fine-tuned."
    )
    references: ReferencesSettings = Field(
        ReferencesSettings(), description="Encoders that show what pretraining gained."
    )
    must_beat: tuple[str, ...] = Field(
        (),
        description="Names of references that the probe accuracy must significantly (95 %) exceed: supervised, or the "
        "names of pretrained networks. Without it, references have no influence on a release.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        0, description="Seed of cross-validation, random shares of labels, random views, and the untrained encoder."
    )

    @model_validator(mode="after")
    def _must_beat_names_references(self) -> "EvaluatorSettings":
        for name in self.must_beat:
            if name not in self.references.names:
                known = ", ".join(self.references.names) or "none"
                hint = _TAKEN.get(name, "name it in evaluator.references first")
                raise ValueError(f"must_beat: {name!r} is not one of the references ({known}): {hint}")
        return self

    def at(self, place: Callable[[str], str]) -> "EvaluatorSettings":
        """Returns these settings with each path changed by a function, for instance to an absolute one."""
        networks = tuple(network.at(place) for network in self.references.pretrained)
        references = self.references.model_copy(update={"pretrained": networks})
        return self.model_copy(update={"data": self.data and place(self.data), "references": references})

    def refusals_without_labels(self) -> list[str]:
        """Returns a sentence for each setting that prevents a release if there are no labelled images."""
        if self.without_labels == "refuse":
            return [
                "There are no labelled images (train/ and test/), so whether the encoder separates your classes is "
                "unknown, and it is not released. Name a labelled set with evaluator.data, or set "
                "evaluator.without_labels to compare: the encoder is then released if it recognises augmented pictures "
                "better than an untrained one and no worse than the champion."
            ]
        # A floor of 0 requires nothing.
        return [
            f"evaluator.{name} cannot be checked without labelled images: set it to {off}, or name a labelled set with "
            "evaluator.data."
            for name, off in (("floor", "null"), ("least_recall", "null"), ("must_beat", "[]"))
            if getattr(self, name)
        ]

    @property
    def needs_champion(self) -> bool:
        """Whether a champion that cannot be used prevents a release."""
        return self.tolerance is not None and not self.accept_baseline_reset
