"""The evaluator's settings."""

from typing import Annotated

from pydantic import Field

from trainer.config import Strength, Strict


class EvaluatorSettings(Strict):
    """What is measured, and what an encoder must reach to be released."""

    floor: Strength = Field(0.0, description="least probe accuracy for a blessing")
    tolerance: Strength = Field(0.01, description="how far the probe accuracy may fall behind the champion's")
    neighbours: Annotated[int, Field(gt=0)] = Field(20, description="k of the kNN accuracy")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="of cross-validation, bootstrap, untrained twin")
