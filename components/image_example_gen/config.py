"""The settings of ImageExampleGen."""

from typing import Annotated

from pydantic import Field

from trainer.config import StrictModel


class IngestSettings(StrictModel):
    """How images become examples."""

    image_size: Annotated[int, Field(ge=31, le=1024)] = Field(
        96, description="Height and width of the ingested images, in pixels."
    )
    max_rejected: Annotated[int, Field(ge=0)] = Field(
        0, description="Number of images that may be undecodable. More than this number fail the run."
    )
