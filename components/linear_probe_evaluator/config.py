"""The evaluator's settings."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from trainer.config import Fraction, StrictModel


class FineTuningSettings(StrictModel):
    """Training the whole encoder on the labelled images, as the second half of the Keras example does."""

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3


class EvaluatorSettings(StrictModel):
    """What is measured, and what an encoder must reach to be released. A requirement that is null is off."""

    data: str | None = Field(
        None, description="a labelled set other than the pretraining one, in any form that data.source takes"
    )
    floor: Fraction | None = Field(None, description="least probe accuracy for a blessing")
    tolerance: Fraction | None = Field(
        0.01,
        description="how far the probe accuracy may lie behind the champion's: the lower end of the paired 95 % "
        "interval of the difference must not reach further",
    )
    least_recall: Fraction | None = Field(None, description="least probe accuracy in each single class")
    beat_untrained: bool = Field(
        True, description="the probe accuracy must lie above an untrained encoder's by more than chance (95 %)"
    )
    accept_baseline_reset: bool = Field(
        False, description="release without a comparison where the champion cannot be read or embeds no images"
    )
    neighbours: tuple[PositiveInt, ...] = Field((20, 200), min_length=1, description="the k of each kNN accuracy")
    label_shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.01, 0.1), description="shares of the labels to report a probe with, besides all of them"
    )
    fine_tuning: FineTuningSettings | None = Field(
        None, description="report the accuracy of a fine-tuned encoder as well"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        0, description="of cross-validation, bootstrap, draws of labels, the untrained twin"
    )

    @property
    def needs_champion(self) -> bool:
        """Whether a champion that cannot be used stands in the way of a release."""
        return self.tolerance is not None and not self.accept_baseline_reset
