"""Searches a file of embeddings for the images that are most similar to one image."""

import tempfile

import numpy as np
import pyarrow.compute as pc

from components import artifact_files
from components.embeddings import groups, neighbours, reading
from components.embeddings.description import Description, Model
from components.embeddings.groups import Group, Image
from components.embeddings.page import Page
from components.image_example_gen.config import IngestSettings
from pipeline.local.curation import Outputs
from pipeline.local.paths import absolute
from pipeline.local.workdir import Workdir
from trainer import storage
from trainer.errors import DataError, SettingsError


class Hits(Group):
    """The images that are most similar to one image.

    Attributes:
        path: Path or URI of the embeddings.
        model: The encoder.
    """

    path: str
    model: Model


def search(query: str, path: str, count: int, model: str | None, workdir: Workdir, page: str | None) -> Hits:
    """Finds the images that are most similar to an image of the file, or to a picture.

    Args:
        query: The id of an image in the file, which is not found itself; or the path or URI of a picture.
        path: Path or URI of the embeddings.
        count: Number of images to find; fewer are found if the file has fewer.
        model: The encoder for a picture, see `encoders.found`; None for the registered version that the file names.
        workdir: The working directory with the embedded model registry.
        page: Path or URI of the page to write; None for none.

    Raises:
        DataError: If the picture cannot be embedded.
        SettingsError: If the embeddings cannot be read, if there is no such image, or if the encoder is another one
            than that of the embeddings.
    """
    outputs = Outputs(page=page)
    outputs.require_usable()
    with reading.opened(path) as embeddings:
        table, description = embeddings.images(), embeddings.description
        row = pc.index(table["id"], query).as_py()
        if row >= 0:
            (image,) = groups.images(table, [row])
            vector, own = embeddings.vector(row), np.array([row])
        else:
            picture = absolute(query)
            with storage.explained(picture, SettingsError):
                if not artifact_files.exists(picture):
                    example = table["id"][0].as_py()
                    raise SettingsError(
                        f"{query} is neither a picture file nor the id of an image in {path}, such as {example}."
                    )
            image, own = Image(id=query, split="", class_name=None, path=picture), None
            vector = _embedded(picture, path, description, model, workdir)
        unit = vector / max(np.linalg.norm(vector), np.finfo(np.float32).tiny)
        found = neighbours.nearest(unit[np.newaxis], embeddings.vectors(unit=True), count, own)
    similar = groups.similar(table, found.rows[0], found.similarities[0])
    hits = Hits(image=image, similar=similar, path=path, model=description.model)
    sentence = f"Of {len(table):,} images of {path}, these are the most similar by {description.model.title}."
    outputs.write((), Page(title=f"Images like {image.id}", sentences=(sentence,), groups=(hits,), role="query"))
    return hits


def _embedded(picture: str, path: str, description: Description, model: str | None, workdir: Workdir) -> np.ndarray:
    """Embeds a picture as the images of the file were embedded."""
    # TensorFlow, which a search by id does not need.
    from components.embeddings import pictures
    from pipeline.local import encoders

    with tempfile.TemporaryDirectory(prefix="nnclr-search-") as scratch:
        encoder = encoders.of_embeddings(path, description.model, model, workdir, f"{scratch}/encoder")
        sizes = {name: description.settings[name] for name in ("image_size", "stored_size")}
        settings = IngestSettings.model_validate(sizes)
        (part,) = pictures.embed_files([picture], settings, encoder.encoder.directory, encoder.encoder.size)
    if part.rejected:
        raise DataError(f"{picture} cannot be embedded: {part.rejected[0].reason}.")
    return part.vectors[0]
