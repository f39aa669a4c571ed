"""Embeds all images of a source into one file, and goes on where an interrupted command stopped."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path

from components import artifact_files, file_lock
from components.artifact_files import Content
from components.embeddings import formats, parts
from components.embeddings.description import Description
from components.embeddings.formats import Rows
from components.embeddings.transform import EmbedSource, part_names
from components.image_example_gen import artifact as examples_artifact
from components.image_example_gen import rejections
from components.image_example_gen.artifact import REJECTED_FILE
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.fingerprint import fingerprint, require_unchanged
from components.image_example_gen.rejections import Rejected
from components.image_example_gen.sources import files as source_files
from components.image_example_gen.sources.base import Source
from components.image_example_gen.sources.opening import open_all
from pipeline.config import Settings, beam_options
from pipeline.local import encoders, single_steps
from pipeline.local.rejections import rejections_kept
from pipeline.local.workdir import Busy, Workdir
from trainer import progress, storage
from trainer.errors import DataError, SettingsError

# The settings of ingest that decide which images an encoder is given, and in which form.
_DECIDING = {"image_size", "stored_size", "split", "exclude", "tfrecord"}
_DESCRIPTION = "description.json"


class Embedded(Content):
    """The result of the command.

    Attributes:
        path: Path or URI of the embeddings.
        description: Their metadata.
        rejected: Number of pictures that cannot be decoded or whose embeddings are not finite.
        left_out: Number of other files that were found and not embedded, by reason.
        unchanged: Whether the embeddings existed already.
    """

    path: str
    description: Description
    rejected: int
    left_out: dict[str, int]
    unchanged: bool


def embed(
    settings: Settings,
    source: str,
    model: str,
    workdir: Workdir,
    output: str,
    overwrite: bool,
    listing_path: str | None = None,
) -> Embedded:
    """Writes the embeddings of all images of a source.

    Until the file is complete, its parts are in a hidden folder beside it, from which the same command goes on. If the
    file exists and holds the same embeddings, nothing is done.

    Args:
        settings: `data` and `beam` apply.
        source: Path or URI of the images.
        model: The encoder, see `encoders.found`.
        workdir: The working directory with the embedded model registry.
        output: Path or URI of the file. Its ending names the format.
        overwrite: Whether to replace embeddings of another encoder or of other images.
        listing_path: Path or URI for the list of rejected pictures and other files that are left out; by default
            beside the file.

    Raises:
        Busy: If another process writes the same file.
        DataError: If the images cannot be used.
        SettingsError: If the encoder cannot be used, or the file holds something else.
    """
    _require_usable(settings, source, output)
    listing_path = listing_path or f"{output}.{REJECTED_FILE}"
    ingest_settings = settings.data.narrow(IngestSettings)
    images = open_all(source, ingest_settings)
    with _unfinished(output) as folder, _encoder_folder(folder, settings) as scratch:
        encoder = encoders.found(model, workdir, scratch)
        ingest_settings = encoders.large_enough(ingest_settings, [encoder.encoder])
        description = _described(encoder, images, ingest_settings, folder)
        with storage.explained(output, SettingsError):
            present = formats.read_description(output) if artifact_files.exists(output) else None
        if present:
            differences = present.differences(description)
            if not differences:
                # A command that was killed when it had just finished may have left its parts.
                if _differences_of_parts(folder, description) == []:
                    _remove(_parts(folder))
                return _result(output, present, images, unchanged=True)
            if not overwrite:
                raise SettingsError(
                    f"{output} exists, and its embeddings are {'; '.join(differences)}: name another file, or replace "
                    "it with --overwrite."
                )
        with storage.explained(output, SettingsError):
            _continue_or_start(folder, description, overwrite)
        _compute(settings, encoder, images, ingest_settings, folder)
        require_unchanged(images, description.fingerprint)
        names = part_names(images, ingest_settings)
        with storage.explained(output, SettingsError), rejections_kept(listing_path):
            description, listing = _counted(folder, names, images, ingest_settings, description)
            _remove(listing_path)
            if listing:
                artifact_files.write(listing_path, listing.encode())
            formats.write(output, f"{folder}/unfinished", description, _rows(folder, names, images))
            _remove(_parts(folder))
        return _result(output, description, images, unchanged=False)


def _require_usable(settings: Settings, source: str, output: str) -> None:
    formats.require_known(output)
    if output.startswith(storage.S3) and not _workers_are_here(settings):
        raise SettingsError(
            f"{output} is in S3, from which TensorFlow on other machines cannot read the encoder: name a file under "
            f"{storage.CLOUD} or in a folder that all machines share."
        )
    if examples_artifact.is_artifact(source):
        origin = examples_artifact.read(source).source
        raise SettingsError(f"{source} holds images that were ingested already: name their source, {origin}.")


def _described(encoder: encoders.Found, images: Source, ingest_settings: IngestSettings, folder: str) -> Description:
    memory = None if storage.in_bucket(folder) else Path(folder) / "digests"
    return Description(
        nnclr=metadata.version("nnclr"),
        model=encoder.model,
        image_size=encoder.encoder.size,
        source=images.path,
        fingerprint=fingerprint(images, memory),
        settings=ingest_settings.model_dump(mode="json", include=_DECIDING),
        class_names=images.class_names,
    )


def _result(output: str, description: Description, images: Source, unchanged: bool) -> Embedded:
    return Embedded(
        path=output,
        description=description,
        rejected=sum(images.counts.values()) - description.count,
        left_out=rejections.counted(images.left_out),
        unchanged=unchanged,
    )


@contextmanager
def _unfinished(output: str) -> Iterator[str]:
    """Yields the hidden folder of unfinished embeddings, which no other process on this machine uses.

    Afterwards the folder is deleted if it holds no parts from which a command could go on.
    """
    parent, separator, name = output.rpartition("/")
    folder = f"{parent}{separator}.{name}.unfinished"
    with ExitStack() as stack:
        if storage.in_bucket(output):
            # Before the encoder is loaded and the images are listed, a mistake in the name is told.
            _finished(folder)
        else:
            try:
                Path(folder).mkdir(parents=True, exist_ok=True)
                stack.enter_context(file_lock.locked(Path(folder), wait=False))
            except BlockingIOError as error:
                raise Busy(f"Another command writes {output}: wait until it ends, or name another file.") from error
            except OSError as error:
                raise SettingsError(f"{output} cannot be written: {error.strerror}.") from error
        try:
            yield folder
        finally:
            if not _finished(folder):
                _remove(folder)


@contextmanager
def _encoder_folder(folder: str, settings: Settings) -> Iterator[str]:
    """Yields the path of a folder for files of the encoder, where all workers see it.

    Args:
        folder: The hidden folder of unfinished embeddings, which all workers see.
        settings: Beam's options say where the workers are.
    """
    if storage.in_bucket(folder) and _workers_are_here(settings):
        with tempfile.TemporaryDirectory(prefix="nnclr-embed-") as local:
            yield f"{local}/encoder"
        return
    target = f"{folder}/encoder"
    # A command that was killed may have left it.
    _remove(target)
    try:
        yield target
    finally:
        _remove(target)


def _workers_are_here(settings: Settings) -> bool:
    return beam_options.workers_are_here(settings.beam_pipeline_args())


def _parts(folder: str) -> str:
    return f"{folder}/parts"


def _finished(folder: str) -> frozenset[str]:
    """Returns the names of the finished parts."""
    with storage.explained(folder, SettingsError):
        return parts.finished(_parts(folder))


def _remove(folder: str) -> None:
    files, target = storage.located(folder)
    with storage.explained(folder, SettingsError):
        if files.exists(target):
            files.rm(target, recursive=True)


def _continue_or_start(folder: str, description: Description, overwrite: bool) -> None:
    """Requires that the finished parts, if there are any, are of the same encoder and images."""
    differences = _differences_of_parts(folder, description)
    if differences == []:
        return
    if differences and not overwrite:
        raise SettingsError(
            f"{folder} holds unfinished embeddings {'; '.join(differences)}: finish them with the command that "
            "started them, name another file, or start again with --overwrite."
        )
    _remove(_parts(folder))
    artifact_files.write_json(f"{folder}/{_DESCRIPTION}", description)


def _differences_of_parts(folder: str, description: Description) -> list[str] | None:
    """Returns how the finished parts differ from those that are wanted; None if there are no parts."""
    if not _finished(folder):
        return None
    try:
        with storage.explained(folder, SettingsError):
            return artifact_files.read_json(f"{folder}/{_DESCRIPTION}", Description).differences(description)
    except artifact_files.DamagedFile:
        return ["whose description is damaged"]


def _compute(
    settings: Settings, encoder: encoders.Found, images: Source, ingest_settings: IngestSettings, folder: str
) -> None:
    """Computes the parts that are missing."""
    names, finished = set(part_names(images, ingest_settings)), _finished(folder)
    if finished:
        progress.logger.info("Going on: %d of %d parts are finished.", len(finished), len(names))
    if names <= finished:
        return
    with single_steps.pipelines(settings)() as pipeline:
        _ = pipeline | "EmbedSource" >> EmbedSource(
            images, ingest_settings, encoder.encoder.directory, encoder.encoder.size, _parts(folder), finished
        )
    missing = names - _finished(folder)
    if missing:
        raise DataError(
            f"Beam's workers wrote {len(missing)} parts that this machine does not see in {_parts(folder)}: let all "
            "workers and this machine share the folder under the same path, or use a bucket."
        )


def _counted(
    folder: str, names: list[str], images: Source, ingest_settings: IngestSettings, description: Description
) -> tuple[Description, str]:
    """Returns the description with the number and length of the embeddings, and the list of files without one."""
    rejected, count, length = list[Rejected](), 0, 0
    for name in names:
        part = parts.read(f"{_parts(folder)}/{name}")
        rejected += part.rejected
        count += len(part.ids)
        length = max(length, part.vectors.shape[1])
    listing = rejections.judged(sorted(rejected), images.left_out, ingest_settings.max_rejected)
    if not count:
        raise DataError(f"{images.path}: none of the {len(rejected)} pictures can be embedded.")
    missing = sum(images.counts.values()) - count - len(rejected)
    if missing:
        raise DataError(
            f"{images.path}: {missing} of {sum(images.counts.values())} pictures were neither embedded nor rejected: "
            "they may have changed while they were read. Start again with --overwrite."
        )
    return description.model_copy(update={"count": count, "length": length}), listing


def _rows(folder: str, names: list[str], images: Source) -> Iterator[Rows]:
    listed = images.files().keys()
    for name in names:
        part = parts.read(f"{_parts(folder)}/{name}")
        if part.ids:
            paths = (source_files.join(images.path, picture) for picture in part.ids)
            yield Rows(part, [path if path in listed else None for path in paths], images.class_names)
