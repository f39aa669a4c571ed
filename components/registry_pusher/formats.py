"""The files of a release that hold its encoder in further formats, beside the SavedModel."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import keras

from components.registry_pusher import verification
from components.run_settings import RunSettings
from trainer import export, portable
from trainer.built_in_encoders import BUILT_IN
from trainer.encoders import build_encoder
from trainer.errors import SettingsError


def require_writable(settings: RunSettings) -> None:
    """Demands that an encoder which is not nnclr's own can be written in the formats, by writing an untrained one.

    Raises:
        SettingsError: If the encoder cannot be written in one of `registry.formats`.
    """
    if settings.trainer.encoder.name in BUILT_IN or not settings.registry.formats:
        return
    size = (settings.data.image_size, settings.data.image_size)
    with tempfile.TemporaryDirectory() as scratch:
        model = f"{scratch}/model"
        encoder = build_encoder(settings.trainer.encoder.architecture, size)
        export.export_encoder(encoder, settings.trainer, size, model)
        verification.write_examples(Path(scratch), model)
        write(model, settings.registry.formats, Path(scratch))


def write(model: str, formats: Iterable[str], directory: Path) -> dict[str, float]:
    """Writes the encoder of a SavedModel in further formats, and compares their embeddings with the SavedModel's.

    Args:
        model: The local folder of the SavedModel.
        formats: Names of formats in `portable.FORMATS`.
        directory: The local folder for the files, in which `verification.write_examples` has stored the SavedModel's
            embeddings.

    Returns:
        The largest difference of each format, see `verification.deviation`.

    Raises:
        SettingsError: If the encoder cannot be written in one of the formats, or computes other embeddings in it.
    """
    encoder: keras.Model | None = None
    deviations = {}
    for name in formats:
        written = portable.FORMATS[name]
        try:
            encoder = encoder or portable.keras_model(model)
            written.write(encoder, str(directory / written.file))
            deviations[name] = verification.deviation(directory, name)
        except OSError:
            # The disk, and not the encoder, is the problem.
            raise
        except Exception as error:
            # Keras, tf2onnx and ONNX Runtime raise exceptions of many types for what they cannot convert or load.
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise _refusal(name, f"cannot be written as {name} ({reason})") from error
        # A comparison with NaN is false.
        if not deviations[name] <= verification.TOLERANCE:
            problem = f"as {name} gives embeddings that differ from the SavedModel's by {deviations[name]:.2g}"
            raise _refusal(name, problem)
    return deviations


def _refusal(name: str, problem: str) -> SettingsError:
    return SettingsError(
        f"registry.formats: this encoder {problem}: remove {name} from registry.formats and run again."
    )
