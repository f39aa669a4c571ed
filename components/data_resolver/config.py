"""The settings that say which images a run works on."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from components.image_example_gen.config import IngestSettings
from components.image_example_gen.sources.opening import known_sources
from trainer.config import StrictModel


class SourceSettings(StrictModel):
    """Where the images are."""

    source: str | None = Field(
        None,
        description=f"Path of the images, local, gs:// or s3://: {known_sources()}. With {{YYYY}}, {{MM}}, {{DD}} or "
        f"{{SPAN}} in the path, the newest complete spans are used, see spans. `sample` stands for the embedded "
        "sample.",
    )
    span: str | None = Field(
        None,
        description="Span to use instead of the newest complete one: a date (2026-11-24) or the digits of {SPAN}.",
    )
    spans: Annotated[int, Field(gt=0)] | Literal["all"] = Field(
        1,
        description="Number of the newest complete spans to use together, or `all`. Their unlabelled images are "
        "joined, and the labelled ones are those of the newest span that has some.",
    )
    settled_minutes: Annotated[float, Field(ge=0)] | None = Field(
        10.0,
        description="A span is complete if it has a file _SUCCESS, or if nothing in it changed for this number of "
        "minutes. If null, only _SUCCESS counts.",
    )
    fingerprint: str = Field(
        "", description="Fingerprint of the images, if it is known. If empty, it is computed from the files."
    )
    only_new: bool = Field(
        False, description="Train nothing if an earlier run used the same images and the same settings."
    )

    @field_validator("span", mode="before")
    @classmethod
    def _as_written(cls, span: Any) -> Any:
        # YAML reads 2026-11-24 as a date.
        if isinstance(span, date) and not isinstance(span, datetime):
            return span.isoformat()
        if isinstance(span, int):
            raise ValueError(f"YAML reads it as a number, which loses leading zeros: write it in quotes, '\"{span}\"'")
        return span


class DataSettings(IngestSettings, SourceSettings):
    """Which images are ingested, and how."""
