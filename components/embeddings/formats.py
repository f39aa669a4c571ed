"""The formats of finished embeddings: Parquet, NumPy's npz, and a folder for TensorBoard's projector.

Each is written part by part, so that memory does not grow with the number of images.
"""

import errno
import io
import json
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components import artifact_files
from components.embeddings.description import Description
from components.embeddings.parts import Part
from trainer import splits, storage
from trainer.errors import SettingsError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PARQUET, NPZ, PROJECTOR = ".parquet", ".npz", ".projector"
ENDINGS = (PARQUET, NPZ, PROJECTOR)

#: What is raised if a file or folder holds something else. Other errors come from the storage.
UNREADABLE = (
    *(ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, FileNotFoundError, NotADirectoryError),
    # Zip files of a later version, or encrypted ones; damaged compressed data; headers of arrays.
    *(NotImplementedError, RuntimeError, zlib.error, tokenize.TokenError, MemoryError, artifact_files.DamagedFile),
)
_METADATA = "nnclr"
_PROJECTOR_DESCRIPTION = "embeddings.json"


@dataclass(frozen=True)
class Rows:
    """The embeddings of some images, and what is known of these images.

    Attributes:
        part: The embeddings.
        paths: The path or URI of each picture's file; None for an image that is not a file of its own.
        class_names: The names of the classes, in the order of the labels.
    """

    part: Part
    paths: list[str | None]
    class_names: tuple[str, ...]

    @property
    def labels(self) -> list[int | None]:
        """The class of each image, counted from 0; None if it is unknown."""
        return [None if label == splits.NO_LABEL else int(label) for label in self.part.labels]

    @property
    def classes(self) -> list[str | None]:
        """The name of each image's class; None if it is unknown."""
        return [None if label is None else self.class_names[label] for label in self.labels]


def require_known(path: str) -> None:
    """Refuses a path that names no known format or storage, and a folder for TensorBoard in a bucket.

    Raises:
        SettingsError: If the path cannot be written.
    """
    if not path.endswith(ENDINGS):
        raise SettingsError(
            f"The ending of {path} names no format: end it with {PARQUET}, {NPZ} or, for a folder for TensorBoard's "
            f"projector, {PROJECTOR}."
        )
    if "://" in path and not storage.in_bucket(path):
        raise SettingsError(
            f"{path} cannot be written: name a local file, or one under {' or '.join(storage.BUCKETS)}."
        )
    if path.endswith(PROJECTOR) and storage.in_bucket(path):
        raise SettingsError(f"{path} must be a local folder: TensorBoard's projector reads no buckets.")


def write(path: str, unfinished: str, description: Description, rows: Iterator[Rows]) -> None:
    """Writes embeddings under a temporary name and renames them, so that no reader sees half of them.

    Args:
        path: Local path or URI; its ending names the format.
        unfinished: The temporary path, on the same storage. What an interrupted attempt left there is replaced.
        description: The metadata, with the number and the length of the embeddings.
        rows: The embeddings in their order; each element has some.
    """
    files, target = storage.located(path)
    _, source = storage.located(unfinished)
    _remove(files, source)
    if path.endswith(PROJECTOR):
        os.makedirs(source)
        _write_projector(source, description, rows)
    else:
        write_file = _write_parquet if path.endswith(PARQUET) else _write_npz
        with files.open(source, "wb") as file:
            write_file(file, description, rows)
    if path.endswith(PROJECTOR):
        # Only files replace one another when they are renamed.
        _remove(files, target)
    files.mv(source, target, recursive=path.endswith(PROJECTOR))


def _remove(files: "AbstractFileSystem", path: str) -> None:
    if files.exists(path):
        files.rm(path, recursive=files.isdir(path))


def read_description(path: str) -> Description:
    """Reads the metadata of embeddings.

    Raises:
        SettingsError: If nnclr did not write the file.
    """
    files, target = storage.located(path)
    refused = SettingsError(f"{path} exists, and nnclr embed did not write it: name another file.")
    try:
        if path.endswith(PROJECTOR):
            return artifact_files.read_json(f"{path}/{_PROJECTOR_DESCRIPTION}", Description)
        with files.open(target, "rb") as file:
            if path.endswith(PARQUET):
                return parquet_description(pq.read_schema(file))
            with np.load(file, allow_pickle=False) as arrays:
                return Description.model_validate_json(str(arrays[_METADATA]))
    except UNREADABLE as error:
        raise refused from error
    except OSError as error:
        # A damaged position in a zip file lies before the start of the file.
        if error.errno != errno.EINVAL:
            raise
        raise refused from error


def parquet_description(schema: pa.Schema) -> Description:
    """Returns the metadata of a Parquet file of embeddings.

    Raises:
        KeyError, TypeError, ValueError: If nnclr did not write the file.
    """
    return Description.model_validate_json(schema.metadata[_METADATA.encode()])


def _write_parquet(file: IO[bytes], description: Description, rows: Iterator[Rows]) -> None:
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("path", pa.string()),
            ("split", pa.string()),
            ("label", pa.int64()),
            ("class", pa.string()),
            ("embedding", pa.list_(pa.float32(), description.length)),
        ],
        {_METADATA: description.model_dump_json()},
    )
    # Numbers that never repeat are not looked up in a dictionary.
    with pq.ParquetWriter(file, schema, use_dictionary=["split", "class"]) as writer:
        for each in rows:
            part = each.part
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.vectors.ravel()), description.length)
            columns = [part.ids, each.paths, [part.split] * len(part.ids), each.labels, each.classes]
            types = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=False)]
            writer.write_table(pa.table([*types, vectors], schema))


def _write_npz(file: IO[bytes], description: Description, rows: Iterator[Rows]) -> None:
    """Writes the arrays of `numpy.load`; unlike `numpy.savez`, it does not hold all embeddings at once."""
    texts: dict[str, list[str]] = {"id": [], "path": [], "split": [], "class": []}
    labels = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("embedding.npy", "w", force_zip64=True) as entry:
            shape = (description.count, description.length)
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype("<f4")), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(entry, header)
            for each in rows:
                entry.write(np.ascontiguousarray(each.part.vectors, "<f4").tobytes())
                texts["id"] += each.part.ids
                texts["path"] += [path or "" for path in each.paths]
                texts["split"] += [each.part.split] * len(each.part.ids)
                texts["class"] += [name or "" for name in each.classes]
                labels.append(each.part.labels)
        arrays = {name: np.array(values) for name, values in texts.items()}
        arrays |= {"label": np.concatenate(labels), _METADATA: np.array(description.model_dump_json())}
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", buffer.getvalue())


def _write_projector(folder: str, description: Description, rows: Iterator[Rows]) -> None:
    with open(f"{folder}/vectors.tsv", "w") as vectors, open(f"{folder}/images.tsv", "w") as images:
        images.write("id\tsplit\tclass\n")
        for each in rows:
            np.savetxt(vectors, each.part.vectors, "%.6g", "\t")
            for name, class_name in zip(each.part.ids, each.classes, strict=True):
                cells = (" ".join(cell.split()) for cell in (name, each.part.split, class_name or ""))
                images.write("\t".join(cells) + "\n")
    with open(f"{folder}/projector_config.pbtxt", "w") as file:
        paths = {"tensor_path": "vectors.tsv", "metadata_path": "images.tsv"}
        fields = {"tensor_name": description.model.title} | paths
        lines = "".join(f"  {name}: {json.dumps(value)}\n" for name, value in fields.items())
        file.write(f"embeddings {{\n{lines}}}\n")
    artifact_files.write_json(f"{folder}/{_PROJECTOR_DESCRIPTION}", description)
