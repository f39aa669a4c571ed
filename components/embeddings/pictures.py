"""Embeds single picture files in this process, without Beam."""

from collections.abc import Iterator, Sequence

from components.embeddings.parts import Part
from components.embeddings.transform import Size, fitted, part_of
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.rejections import Rejected
from components.image_example_gen.sources import files
from components.image_example_gen.sources.base import Picture
from components.image_example_gen.sources.folder_layout import printable
from components.image_example_gen.transforms import Block, Shard, images_per_block
from components.inference import Inference
from trainer import splits
from trainer.errors import DataError
from trainer.progress import Reporter


def embed_files(paths: Sequence[str], settings: IngestSettings, model: str, size: Size) -> Iterator[Part]:
    """Embeds picture files, a block of some ten MiB of pixels at a time.

    Args:
        paths: Their local paths and URIs, which become the ids.
        settings: The size in which pictures are decoded.
        model: The directory of the exported encoder.
        size: Height and width of the images that the encoder takes, in pixels.

    Yields:
        Consecutive embeddings; a picture that cannot be decoded is among the rejected ones.

    Raises:
        DataError: If there is no such file, or its storage fails.
    """
    listed = [(path, files.listing(path).files.get("")) for path in paths]
    missing = [path for path, entry in listed if entry is None]
    if missing:
        others = f", nor do {len(missing) - 1} other pictures" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]} does not exist{others}: correct the path.")
    present = [(path, entry) for path, entry in listed if entry is not None]
    count = images_per_block(settings)
    inference, reporter = Inference(model), Reporter("Embedding", len(present))
    embeddings = inference.load_model()
    for first in range(0, len(present), count):
        block = Block(Shard(splits.UNLABELLED, first // count, -(-len(present) // count)), [], [])
        some = present[first : first + count]
        for index, (path, content) in enumerate(files.read_ahead(some), first):
            name = printable(path)
            if isinstance(content, PermissionError):
                block.rejected.append(Rejected(splits.UNLABELLED, name, files.NO_PERMISSION))
            else:
                block.add(Picture(splits.UNLABELLED, index, name, content, splits.NO_LABEL), settings)
        images, pixels = fitted(block, size)
        (vectors,) = inference.run_inference([pixels], embeddings)
        yield part_of(images, vectors)
        reporter.advance(len(some))
