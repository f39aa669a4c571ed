"""The settings of ImageExampleGen."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config import StrictModel


class SplitShares(StrictModel):
    """How labelled images without a split are divided."""

    train: Annotated[float, Field(gt=0, lt=1)] = Field(..., description="Share of the split train.")
    test: Annotated[float, Field(gt=0, lt=1)] = Field(..., description="Share of the split test.")

    @model_validator(mode="after")
    def _require_whole(self) -> "SplitShares":
        if not math.isclose(self.train + self.test, 1.0, abs_tol=1e-6):
            raise ValueError(f"train and test are {self.train:g} and {self.test:g}: their sum must be 1")
        return self


class TfrecordFeatures(StrictModel):
    """Names of features in TFRecords that another program has written."""

    image: str = Field("image", description="Feature with the bytes of a picture file.")
    label: str = Field("label", description="Feature with the class, a number from 0 or a text.")


class IngestSettings(StrictModel):
    """How images become examples."""

    image_size: Annotated[int, Field(ge=31, le=1024)] = Field(
        96, description="Height and width of the images that an encoder is trained on, in pixels."
    )
    stored_size: Annotated[int, Field(le=4096)] | None = Field(
        None,
        description="Length of the shorter side of the stored images, in pixels. Larger images are shrunk to it, and "
        "their aspect ratio is kept, up to 2:1, so that crops in training have more detail. If null, images are "
        "resized and cropped to squares of image_size.",
    )
    encoding: Literal["raw", "jpeg"] = Field(
        "raw",
        description="Encoding of the stored pixels. `raw` is the fastest to read. `jpeg`, with quality 95, takes about "
        "a tenth of the space.",
    )
    max_rejected: Annotated[int, Field(ge=0)] = Field(
        0, description="Number of images that may be undecodable. More than this number fail the run."
    )
    split: SplitShares | None = Field(
        None,
        description="Shares, such as {train: 0.6, test: 0.4}, by which labelled images without a split are divided. "
        "Their contents decide, so that images that look alike are in the same split. In a folder without "
        "split folders, each folder is then a class.",
    )
    exclude: str | None = Field(
        None,
        description="Path of a list of files to leave out of a folder of pictures: one path on each line, relative to "
        "the source, or lines of rejected.jsonl or of a list that nnclr duplicates, leaks or outliers wrote.",
    )

    tfrecord: TfrecordFeatures = Field(
        TfrecordFeatures(), description="Names of the features, if the images are TFRecords."
    )

    @model_validator(mode="after")
    def _require_pixels_for_training(self) -> "IngestSettings":
        if self.stored_size is not None and self.stored_size < self.image_size:
            raise ValueError(f"stored_size is {self.stored_size}, less than image_size, which is {self.image_size}")
        return self
