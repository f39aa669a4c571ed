"""What all groups of settings have in common."""

import math
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]

_Settings = TypeVar("_Settings", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of all settings: refuses unknown fields and cannot be changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def narrow(self, model: type[_Settings]) -> _Settings:
        """Returns only the settings that a parent class of these settings has.

        A component that is given no others does not run again when others change.
        """
        return model(**{name: getattr(self, name) for name in model.model_fields})


def require_range(name: str, ends: tuple[float, float], top: float = math.inf) -> None:
    """Demands two rising numbers.

    Raises:
        ValueError: If the numbers do not rise, or lie outside of 0 to `top`.
    """
    low, high = ends
    if not 0 < low <= high <= top or math.isinf(high):
        raise ValueError(f"{name} must be two rising numbers above 0{' up to 1' if top == 1 else ''}")
