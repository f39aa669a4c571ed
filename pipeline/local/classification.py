"""Classifies picture files, all images of a source, or embeddings, by an encoder and its fitted probe."""

import collections
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext

from components import artifact_files
from components.artifact_files import Content
from components.embeddings import classification, pictures, reading
from components.embeddings.classification import Prediction, Probe
from components.embeddings.formats import PARQUET
from components.embeddings.reading import Embeddings
from components.image_example_gen import rejections
from components.image_example_gen.artifact import REJECTED_FILE
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.rejections import Rejected
from components.image_example_gen.sources.picture_formats import ENDINGS
from pipeline.config import Settings
from pipeline.local import embedding, encoders, tables
from pipeline.local.encoders import Found
from pipeline.local.paths import absolute
from pipeline.local.rejections import rejections_kept
from pipeline.local.workdir import Workdir
from trainer import storage
from trainer.errors import SettingsError


class Classified(Content):
    """The result of the command.

    Attributes:
        model: The encoder, for people.
        class_names: Names of the classes.
        count: Number of images with a prediction.
        by_class: Number of these by their most probable class.
        rejected: Number of pictures that cannot be decoded or whose embeddings are not finite.
        left_out: Number of other files that were found and not classified, by reason.
        predictions: The predictions in the order of the images; empty if they were written to a file.
    """

    model: str
    class_names: tuple[str, ...]
    count: int
    by_class: dict[str, int]
    rejected: int = 0
    left_out: dict[str, int] = {}
    predictions: tuple[Prediction, ...] = ()


def classify(
    settings: Settings,
    images: Sequence[str],
    embeddings: str | None,
    model: str | None,
    probe_folder: str | None,
    workdir: Workdir,
    output: str | None,
    most: int,
) -> Classified:
    """Classifies images.

    Args:
        settings: `data` and `beam` apply.
        images: Paths or URIs of picture files, or of one source of images; none if there are `embeddings`.
        embeddings: Path or URI of a Parquet file of embeddings; None if there are `images`.
        model: The encoder, see `encoders.found`; None for the champion, or for the registered version that the
            embeddings are of.
        probe_folder: Path or URI of the folder with the probe; None for the one that the encoder was released with.
        workdir: The working directory with the embedded model registry.
        output: Path or URI of a CSV file for the predictions; a source needs one. None returns the predictions.
        most: The number of most probable classes for each image.

    Raises:
        Busy: If another process classifies the same source into the same file.
        DataError: If the images cannot be used.
        SettingsError: If the encoder or its probe cannot be used, or the embeddings are of another encoder.
    """
    if bool(images) == bool(embeddings):
        raise SettingsError("Name either images or, with --in, a file of their embeddings.")
    if output:
        tables.require_new(output)
    are_files = all(path.lower().endswith(ENDINGS) for path in images)
    if not are_files:
        _require_one_source(images, output)
    hidden, rejected, left_out = None, 0, dict[str, int]()
    with tempfile.TemporaryDirectory(prefix="nnclr-classify-") as scratch, ExitStack() as stack:
        if embeddings:
            file = stack.enter_context(reading.opened(embeddings))
            encoder = encoders.of_embeddings(embeddings, file.description.model, model, workdir, f"{scratch}/encoder")
        else:
            champion = f"models:/{settings.registry.model_name}/{settings.registry.alias}"
            encoder = encoders.found(model or champion, workdir, f"{scratch}/encoder")
        probe = _probe(encoder, probe_folder)
        if images and are_files:
            predictions, rejected = _of_files(settings, images, encoder, probe, most, output)
        else:
            if images:
                # An interrupted command goes on from the parts of this file. The alias may move meanwhile.
                hidden, same = _hidden(str(output)), encoder.uri or str(model)
                embedded = embedding.embed(
                    settings, absolute(images[0]), same, workdir, hidden, True, f"{output}.{REJECTED_FILE}"
                )
                rejected, left_out = embedded.rejected, embedded.left_out
                file = stack.enter_context(reading.opened(hidden))
            predictions = list(_of_embeddings(file, probe, most))
    if output:
        most = min(most, len(probe.class_names))
        further = [f"{name}_{place}" for place in range(2, most + 1) for name in ("label", "probability")]
        rows = (
            [each.file, *(value for guess in each.guesses for value in (guess.label, guess.probability))]
            for each in predictions
        )
        tables.write(output, ["file", "label", "probability", *further], rows)
    if hidden:
        files, target = storage.located(hidden)
        files.rm(target)
    by_class = collections.Counter(each.guesses[0].label for each in predictions)
    return Classified(
        model=encoder.model.title,
        class_names=probe.class_names,
        count=len(predictions),
        by_class=dict(sorted(by_class.items())),
        rejected=rejected,
        left_out=left_out,
        predictions=() if output else tuple(predictions),
    )


def _require_one_source(images: Sequence[str], output: str | None) -> None:
    if len(images) > 1:
        other = next(path for path in images if not path.lower().endswith(ENDINGS))
        raise SettingsError(
            f"{other} is no picture ({', '.join(ENDINGS)}): name several pictures, or one folder or other source."
        )
    if not output:
        raise SettingsError(f"{images[0]} is no single picture: name a file for the predictions of all its images, -o.")


def _probe(encoder: Found, folder: str | None) -> Probe:
    probe = classification.evaluated(folder) if folder else classification.released(encoder.encoder.directory)
    if probe is None:
        raise SettingsError(
            f"{encoder.model.title} has no fitted probe that classifies: fit one on labelled images with "
            "nnclr evaluate ENCODER --data LABELLED -o FOLDER, and name it with --probe FOLDER."
        )
    return probe


def _hidden(output: str) -> str:
    """Returns the path of the embeddings behind a table of predictions."""
    folder, separator, name = output.rpartition("/")
    return f"{folder}{separator}.{name}{PARQUET}"


def _of_embeddings(file: Embeddings, probe: Probe, most: int) -> Iterator[Prediction]:
    ids, first = file.images()["id"].to_pylist(), 0
    for vectors in file.vectors():
        yield from probe.predictions(ids[first : first + len(vectors)], vectors, most)
        first += len(vectors)


def _of_files(
    settings: Settings, paths: Sequence[str], encoder: Found, probe: Probe, most: int, output: str | None
) -> tuple[list[Prediction], int]:
    """Returns the predictions, and the number of pictures without one."""
    ingest_settings = encoders.large_enough(settings.data.narrow(IngestSettings), [encoder.encoder])
    predictions, rejected = list[Prediction](), list[Rejected]()
    for part in pictures.embed_files(paths, ingest_settings, encoder.encoder.directory, encoder.encoder.size):
        rejected += part.rejected
        if part.ids:
            predictions += probe.predictions(part.ids, part.vectors, most)
    with rejections_kept(f"{output}.{REJECTED_FILE}") if output else nullcontext():
        listing = rejections.judged(rejected, (), ingest_settings.max_rejected)
    if output and listing:
        artifact_files.write(f"{output}.{REJECTED_FILE}", listing.encode())
    return predictions, len(rejected)
