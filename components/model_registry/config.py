"""The settings of the model registry."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from trainer.config import StrictModel


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
        return alias


class RegistrySettings(ChampionSettings):
    """Where a blessed encoder is released to. The environment variable MLFLOW_TRACKING_URI names the server."""

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
