"""Embeds images in the page."""

import base64
import io

import numpy as np
from PIL import Image


def data_uri(image: np.ndarray) -> str:
    """Returns an image, uint8 [height, width, 3], as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
