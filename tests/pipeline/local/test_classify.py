"""`nnclr classify`: pictures, sources and embeddings."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from components.embeddings import formats
from components.embeddings.description import Description, Model
from components.embeddings.formats import Rows
from components.embeddings.parts import Part
from components.linear_probe_evaluator import artifact as evaluation_artifact
from components.linear_probe_evaluator.artifact import ProbeWeights
from pipeline import config
from pipeline.local import classification, embedding
from pipeline.local.classification import Classified
from pipeline.local.workdir import Workdir
from tests.components import releases
from tests.pipeline.commands.sessions import session
from trainer import export
from trainer.errors import DataError, SettingsError

PROBE = releases.classifier(0)
OF_ANOTHER = Description(
    nnclr="0.1.0",
    model=Model(name="other", sha256="c0ffee" * 10),
    image_size=(32, 32),
    source="/pictures",
    fingerprint="f00d",
    settings={},
    count=1,
    length=8,
)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder with pictures in two formats, of which TensorFlow decodes one, and a file that is no picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.tiff"):
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), np.uint8)).save(folder / name)
    (folder / "c.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> Path:
    """A folder with an encoder, `encoder` with a fitted probe and `plain` without."""
    folder = tmp_path_factory.mktemp("encoders")
    export.export_with_classifier(releases.export_model(folder / "plain", seed=1), PROBE, str(folder / "encoder"))
    return folder


def classify(images: list[Path], model: Path, allowed: int = 0, **options) -> Classified:
    settings = config.load(None, None, [f"data.max_rejected={allowed}"])
    given = {"embeddings": None, "probe_folder": None, "output": None, "most": 2} | options
    paths, workdir = [str(path) for path in images], Workdir(Path("runs"))
    return classification.classify(settings, paths, model=str(model), workdir=workdir, **given)


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def png(path: Path) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    Image.open(path).save(file, "PNG")
    return file.getvalue()


def test_pictures_of_all_formats_get_the_classes_of_the_encoders_probe(pictures, encoders):
    files = [pictures / "a.png", pictures / "b.tiff", pictures / "c.jpg"]
    found = classify(files, encoders / "encoder", allowed=1)
    assert (found.count, found.rejected, found.class_names) == (2, 1, tuple(releases.CLASSES))
    vectors = export.embed_encoded(str(encoders / "plain"), [png(file) for file in files[:2]])
    expected = softmax(vectors @ PROBE.weights + PROBE.bias, axis=1)
    for prediction, file, row in zip(found.predictions, files, expected, strict=False):
        assert prediction.file == str(file)
        assert [guess.label for guess in prediction.guesses] == [releases.CLASSES[i] for i in np.argsort(-row)]
        # Pictures are decoded and resized by Pillow here, and by TensorFlow there.
        np.testing.assert_allclose([guess.probability for guess in prediction.guesses], -np.sort(-row), atol=0.01)


@pytest.mark.long
def test_sources_and_embeddings_get_the_same_classes_as_single_pictures(tmp_path, pictures, encoders):
    files, encoder = [pictures / "a.png", pictures / "b.tiff"], encoders / "encoder"
    expected = [
        [prediction.guesses[0].label, *(guess.probability for guess in prediction.guesses)]
        for prediction in classify(files, encoder).predictions
    ]
    settings, embeddings = config.load(None, None, ["data.max_rejected=1"]), str(tmp_path / "e.parquet")
    embedding.embed(settings, str(pictures), str(encoder), Workdir(tmp_path / "runs"), embeddings, False)
    classify([], encoder, embeddings=embeddings, output=str(tmp_path / "of-embeddings.csv"))
    written = classify([pictures], encoder, allowed=1, output=str(tmp_path / "of-source.csv"))
    assert (written.count, written.rejected, written.predictions) == (2, 1, ())
    for name in ("of-embeddings.csv", "of-source.csv"):
        (header, *rows) = read(tmp_path / name)
        assert header == ["file", "label", "probability", "label_2", "probability_2"]
        assert [row[0] for row in rows] == ["a.png", "b.tiff"]
        assert [row[1] for row in rows] == [row[0] for row in expected]
        probabilities = [[float(row[2]), float(row[4])] for row in rows]
        np.testing.assert_allclose(probabilities, [row[1:] for row in expected], rtol=1e-4)
    assert "c.jpg" in (tmp_path / "of-source.csv.rejected.jsonl").read_text()
    # The embeddings in between are gone.
    left = {path.name for path in tmp_path.iterdir() if "of-source" in path.name}
    assert left == {"of-source.csv", "of-source.csv.rejected.jsonl"}


def test_what_cannot_be_classified_is_named_before_anything_is_predicted(tmp_path, pictures, encoders):
    encoder = encoders / "encoder"
    with pytest.raises(DataError, match=r"1 pictures cannot be decoded, 0 are allowed: .*c\.jpg .*data.max_rejected=1"):
        classify(sorted(pictures.iterdir()), encoder)
    with pytest.raises(DataError, match=r"nowhere\.png does not exist, nor do 1 other pictures"):
        classify([pictures / "nowhere.png", pictures / "a.png", pictures / "gone.png"], encoder)
    with pytest.raises(SettingsError, match=r"pictures is no single picture: name a file for the predictions"):
        classify([pictures], encoder)
    with pytest.raises(SettingsError, match=r"pictures is no picture .*: name several pictures, or one folder"):
        classify([pictures, pictures / "a.png"], encoder)
    with pytest.raises(SettingsError, match="Name either images or, with --in,"):
        classify([], encoder)
    with pytest.raises(SettingsError, match=r"plain .* has no fitted probe .* nnclr evaluate .* --probe FOLDER"):
        classify([pictures / "a.png"], encoders / "plain")
    rows = Rows(Part("unlabelled", ["a"], np.array([-1]), np.ones([1, 8], np.float32), []), [None], ())
    formats.write(str(tmp_path / "e.parquet"), str(tmp_path / "unfinished"), OF_ANOTHER, iter([rows]))
    with pytest.raises(SettingsError, match=r"e\.parquet has embeddings of other .*, not of encoder .*--model"):
        classify([], encoder, embeddings=str(tmp_path / "e.parquet"))


@pytest.mark.long
def test_without_a_probe_the_encoder_classifies_by_that_of_an_evaluation_of_its_own(tmp_path, pictures, encoders):
    plain, picture = encoders / "plain", [pictures / "a.png"]
    with pytest.raises(SettingsError, match=r"--probe .*nowhere holds no fitted probe"):
        classify(picture, plain, probe_folder=str(tmp_path / "nowhere"))
    for name, weights in (("own", PROBE.weights), ("other", PROBE.weights[:5])):
        evaluation_artifact.write_evaluation(
            str(tmp_path / name), releases.metrics(0.5), "", ProbeWeights(weights, PROBE.bias)
        )
    (ours,) = classify(picture, plain, probe_folder=str(tmp_path / "own")).predictions
    (released,) = classify(picture, encoders / "encoder").predictions
    for guess, expected in zip(ours.guesses, released.guesses, strict=True):
        assert guess.label == expected.label
        assert guess.probability == pytest.approx(expected.probability, rel=1e-4)
    with pytest.raises(SettingsError, match=r"The probe is for embeddings of length 5, and these have length 8"):
        classify(picture, plain, probe_folder=str(tmp_path / "other"))


@pytest.mark.long
def test_the_commands_embed_classify_and_suggest_work_together(tmp_path, pictures, encoders):
    (pictures / "c.jpg").unlink()
    embeddings, encoder = ["--in", "e.parquet"], ["--model", str(encoders / "encoder")]
    (embedded, classified, piece, suggested) = session(
        tmp_path,
        ["embed", "pictures", "-o", "e.parquet", *encoder],
        ["classify", *embeddings, *encoder, "-o", "p.csv", "--top", "1"],
        ["classify", "pictures/a.png", *encoder, "--json"],
        ["suggest", *embeddings, "-n", "1", "-o", "labels.csv"],
    )
    codes = [ended.code for ended in (embedded, classified, piece, suggested)]
    assert codes == [0, 0, 0, 0], classified.err
    assert "Wrote the predictions of 2 images to p.csv (0 rejected)." in classified.out
    (prediction,) = piece.json["predictions"]
    (header, row, _) = read(tmp_path / "p.csv")
    assert header == ["file", "label", "probability"]
    assert row[1] == prediction["guesses"][0]["label"]
    assert "Wrote 1 of 2 images without a label to labels.csv: each is typical" in suggested.out
    assert len(read(tmp_path / "labels.csv")) == 2
