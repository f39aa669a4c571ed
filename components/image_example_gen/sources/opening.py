"""Tells which kind of source a path is."""

from components.image_example_gen import stl10
from components.image_example_gen.sources import files, tfds_stl10
from components.image_example_gen.sources.base import Source
from components.image_example_gen.sources.image_folder import ENDINGS, ImageFolder
from components.image_example_gen.sources.labelled_only import LabelledOnly
from components.image_example_gen.sources.stl10_archive import Stl10Archive
from components.image_example_gen.sources.stl10_directory import Stl10Directory
from components.image_example_gen.sources.tfds_stl10 import TfdsStl10
from trainer import examples
from trainer.errors import DataError

_CLOUD = "gs://"


def open_source(path: str) -> Source:
    """Opens the images at `path`, local or `gs://`, whatever kind of source it is, for pretraining.

    Raises:
        DataError: there is nothing, or nothing of a known kind; the source is damaged; it has no unlabelled images.
    """
    source = _open(path)
    # Every other kind has all three splits; and an archive must be unpacked to count its images.
    if isinstance(source, ImageFolder) and not source.counts[examples.UNLABELLED]:
        kinds = ", ".join(ENDINGS)
        raise DataError(f"{source.path}/{examples.UNLABELLED} has no pictures ({kinds}) to pretrain on.")
    return source


def open_labelled(path: str) -> Source:
    """Opens the labelled images at `path`, to evaluate with.

    Raises:
        DataError: as `open_source`; here the images of the splits `train` and `test` are what must be there.
    """
    source = _open(path)
    if isinstance(source, ImageFolder) and not source.counts[examples.TEST]:
        raise DataError(f"{source.path} has no labelled images: evaluator.data needs train/ and test/.")
    return LabelledOnly(source)


def _open(path: str) -> Source:
    path = path.rstrip("/")
    if "://" in path and not path.startswith(_CLOUD):
        raise DataError(
            f"{path} cannot be read: images are ingested from a local path or from {_CLOUD}. Download them first "
            "(STL-10: nnclr data stl10 DIRECTORY)."
        )
    if path.endswith((".tar.gz", ".tgz")):
        if not files.exists(path):
            raise DataError(f"{path} does not exist.")
        return Stl10Archive(path)
    beside = {name[len(path) + 1 :] for name in files.listing(path, "*")}
    if beside & set(stl10.FILES):
        return Stl10Directory(path)
    if tfds_stl10.prepared_version(path):
        return TfdsStl10(path)
    below = files.listing(path, "**")
    if not below:
        raise DataError(f"{path} does not exist or is empty.")
    folders = {name[len(path) + 1 :].partition("/")[0] for name in below}
    if folders & set(examples.SPLITS):
        return ImageFolder(path)
    hint = "; rename its `unlabeled` to `unlabelled`" if "unlabeled" in folders else ""
    raise DataError(
        f"{path} is no known source of images{hint}. Known are: a directory in STL-10's binary layout, "
        "stl10_binary.tar.gz, a TFDS data_dir with a prepared stl10, and a folder with unlabelled/ "
        "(and, to evaluate, train/CLASS/ and test/CLASS/)."
    )
