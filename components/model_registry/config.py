"""The settings of the model registry."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from trainer.config import StrictModel

#: The alias of a blessed encoder that waits for a person's approval.
CHALLENGER = "challenger"

# MLflow's table of versions shows a tag on one line.
_Line = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^\S.*$")]
_Paragraphs = Annotated[str, Field(min_length=1, max_length=5_000, pattern=r"^\S")]


class ChampionSettings(StrictModel):
    """Which registered version is the champion."""

    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")] = Field(
        "nnclr-encoder", description="Name of the registered model."
    )
    alias: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")] = Field(
        "champion", description="Alias that marks the champion among the versions."
    )

    @field_validator("alias")
    @classmethod
    def _not_reserved(cls, alias: str) -> str:
        if alias == "latest" or re.fullmatch(r"[vV]\d+", alias):
            raise ValueError("MLflow reserves `latest` and `v1`, `v2`, ...: choose another alias")
        if alias == CHALLENGER:
            raise ValueError(f"`{CHALLENGER}` marks an encoder that waits for approval: choose another alias")
        return alias


class CardSettings(StrictModel):
    """What only people can say about a released encoder, for its model card and its description in the registry."""

    licence: _Line | None = Field(
        None, description="Licence of the encoder, for instance CC-BY-4.0 or its address. If null, none is stated."
    )
    intended_use: _Paragraphs | None = Field(
        None, description="What the encoder is meant for, and what it is not meant for, in Markdown."
    )
    contact: _Line | None = Field(None, description="Who answers questions about the encoder.")


class RegistrySettings(ChampionSettings):
    """Where a blessed encoder is released to. The environment variable MLFLOW_TRACKING_URI names the server."""

    approval: Literal["automatic", "manual"] = Field(
        "automatic",
        description="Who decides that a blessed encoder becomes the champion. `automatic`: nobody, it does at once. "
        f"`manual`: it is registered under the alias `{CHALLENGER}` until a person runs nnclr models promote.",
    )
    card: CardSettings = CardSettings()
    artifact_location: str | None = Field(
        None,
        description="Folder, or gs:// or s3:// URI, for the files of a new registered model. If null, the registry "
        "chooses it.",
    )
    serving_directory: str | None = Field(
        None,
        description="Folder, or gs:// or s3:// URI, that TensorFlow Serving watches. If null, nothing is published for "
        "Serving.",
    )
    formats: list[Literal["onnx", "keras"]] = Field(
        ["onnx", "keras"],
        description="Formats in which a version holds the encoder beside its SavedModel. Writing ONNX takes memory: "
        "2 GB for a ResNet-18, 4.5 GB for a ResNet-50.",
    )
