"""What is measured, and who is blessed."""

import io
import json
import tempfile
from pathlib import Path

import apache_beam as beam
import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from components.champion_resolver.artifact import Champion
from components.image_example_gen import duplicates
from components.image_example_gen.encoding import to_example
from components.image_example_gen.sources.base import Picture
from components.linear_probe_evaluator import embedding, evaluation, findings, page, probes, protocols, significance
from components.linear_probe_evaluator.artifact import Duplicates, Repeated
from components.linear_probe_evaluator.config import EvaluatorSettings, FineTuningSettings
from components.linear_probe_evaluator.copies import Copies
from components.linear_probe_evaluator.embedding import Encoder
from components.linear_probe_evaluator.evaluation import Inputs, RegisteredModel
from components.linear_probe_evaluator.probes import Labelled
from trainer import export, fitting
from trainer.config import TrainerSettings
from trainer.encoders import build_encoder
from trainer.errors import DataError

SETTINGS = TrainerSettings.model_validate({"encoder": {"width": 64}})


def clusters(seed: int, rows: int, spread: float, classes: int = 4) -> Labelled:
    """Gaussian clusters around the same centres whatever the seed."""
    centres = np.random.default_rng(0).normal(size=(classes, 6))
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    return Labelled((centres[labels] + spread * rng.normal(size=(rows, 6))).astype(np.float32), labels)


def probed(train: Labelled, test: Labelled, classes: int = 4) -> probes.Score:
    return probes.score(probes.fit(train, classes, seed=0), test)


def test_probe_separates_clusters_and_reports_chance_for_noise():
    separable = probed(clusters(1, 200, 0.1), clusters(2, 100, 0.1))
    assert separable.accuracy == 1.0
    assert separable.recall == [1.0] * 4
    noise = probed(clusters(1, 400, 100.0), clusters(2, 400, 100.0))
    assert 0.15 < noise.accuracy < 0.35
    assert noise.interval[0] < noise.accuracy < noise.interval[1]
    # A binomial interval of 400 images is about +-4.2 points wide.
    assert 0.06 < noise.interval[1] - noise.interval[0] < 0.11


@pytest.mark.parametrize("classes", [2, 4])
def test_probe_is_scikit_learns_regression_for_features_as_they_are(classes, monkeypatch):
    train, test = clusters(1, 300, 1.5, classes), clusters(2, 100, 1.5, classes)
    scaler = StandardScaler().fit(train.features)
    expected = LogisticRegression(C=0.1, max_iter=1_000).fit(scaler.transform(train.features), train.labels)
    # Batches that do not divide the rows: nothing is lost at their seams.
    monkeypatch.setattr(probes, "_BATCH", 64)
    probe = probes.fit(train, classes, seed=0, strength=0.1)
    np.testing.assert_array_equal(probe.predict(test.features), expected.predict(scaler.transform(test.features)))
    shares = np.exp(test.features @ probe.weights + probe.bias)
    shares /= shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(shares, expected.predict_proba(scaler.transform(test.features)), atol=2e-3)


@pytest.mark.parametrize("seed", range(2, 4))
def test_probabilities_agree_with_the_accuracy_if_there_are_few_labels_and_many_features(seed):
    rng = np.random.default_rng(seed)

    def rows(count: int) -> Labelled:
        labels = rng.integers(0, 4, count)
        features = rng.normal(size=(count, 60))
        features[:, :4] += 0.7 * np.eye(4)[labels]
        return Labelled(features.astype(np.float32), labels)

    score = probed(rows(150), rows(1_000))
    # A regularisation that is chosen by accuracy gives 0.26.
    assert score.calibration_error < 0.05
    assert score.accuracy > 0.3


def test_probe_reads_features_from_disk(tmp_path):
    train, test = clusters(1, 300, 1.0), clusters(2, 100, 1.0)
    train.features.tofile(tmp_path / "features")
    mapped = Labelled(np.memmap(tmp_path / "features", np.float32, "r", shape=train.features.shape), train.labels)
    on_disk, in_memory = probes.fit(mapped, 4, seed=0), probes.fit(train, 4, seed=0)
    np.testing.assert_array_equal(on_disk.weights, in_memory.weights)
    assert on_disk.strength == in_memory.strength
    assert isinstance(mapped.features, np.memmap)
    assert probes.score(on_disk, test).accuracy > 0.7


def test_probe_never_learns_from_the_test_split():
    train, test = clusters(1, 120, 1.0), clusters(2, 80, 1.0)
    shuffled = Labelled(test.features, np.random.default_rng(3).permutation(test.labels))
    assert probed(train, shuffled).accuracy < probed(train, test).accuracy
    np.testing.assert_array_equal(probed(train, shuffled).predicted, probed(train, test).predicted)


def test_probe_is_blind_to_the_scale_of_features():
    train, test = clusters(1, 120, 0.8), clusters(2, 80, 0.8)
    scale = np.array([1e-3, 1, 1e3, 1, 10, 1], np.float32)
    scaled = probed(Labelled(train.features * scale, train.labels), Labelled(test.features * scale, test.labels))
    assert scaled.accuracy == pytest.approx(probed(train, test).accuracy, abs=0.03)


def test_classes_that_a_split_lacks():
    test = clusters(2, 80, 0.1)
    some = test.labels != 3
    # A class without test images has no recall.
    assert probed(clusters(1, 80, 0.1), test[some]).recall == [1.0, 1.0, 1.0, None]
    train = clusters(1, 80, 0.1)
    without = probed(train[train.labels != 3], test)
    assert without.recall == [1.0, 1.0, 1.0, 0.0]
    assert 3 not in without.predicted
    assert probed(train[train.labels == 2], test).recall == [0.0, 0.0, 1.0, 0.0]


def test_draws_of_labels_are_even_over_classes_and_never_lose_one():
    labels = np.repeat([0, 1, 2], [1000, 500, 3])
    drawn = protocols.draws(labels, 0.1, seed=0)
    assert len(drawn) == protocols.DRAWS
    for rows in drawn:
        assert np.bincount(labels[rows]).tolist() == [100, 50, 1]
        assert len(set(rows)) == len(rows)
    assert any((drawn[0] != rows).any() for rows in drawn[1:])
    assert all((one == two).all() for one, two in zip(drawn, protocols.draws(labels, 0.1, seed=0), strict=True))


def test_official_folds_are_fitted_one_by_one_and_scored_on_all_of_test():
    folds = np.zeros([200, 16], bool)
    for fold in range(10):
        # Folds may overlap, and images may be in none.
        folds[fold * 10 : fold * 10 + 60, fold] = True
    subsets = protocols.official_folds(folds)
    assert [rows[0] for rows in subsets] == list(range(0, 100, 10))
    train, test = clusters(1, 200, 1.0), clusters(2, 100, 1.0)
    result = protocols.repeated(train, test, subsets, 4, seed=0)
    strength = probes.fit(train[subsets[0]], 4, seed=0).strength
    fitted = [probes.fit(train[rows], 4, 0, strength) for rows in subsets]
    accuracies = [float((probe.predict(test.features) == test.labels).mean()) for probe in fitted]
    assert (result.runs, result.images) == (10, 60)
    assert result.mean == pytest.approx(np.mean(accuracies))
    assert result.deviation == pytest.approx(np.std(accuracies, ddof=1))
    assert protocols.official_folds(np.zeros([200, 16], bool)) == []


def test_calibration_error_is_the_distance_of_probability_and_accuracy():
    probability = np.repeat([0.5, 0.9], [100, 300]).astype(np.float32)
    hits = np.concatenate([np.arange(100) < 50, np.arange(300) < 180])

    def error(hits: np.ndarray) -> float:
        return probes.Score(hits.mean(), (0, 1), [], hits, hits.astype(int), probability).calibration_error

    # The first bin is right about itself, and the second is 90 % sure and right in 60 % of all cases.
    assert error(hits) == pytest.approx(0.75 * 0.3)
    assert probes.Score(1.0, (0, 1), [], np.ones(3), np.ones(3), np.ones(3)).calibration_error == 0


def test_a_probe_that_does_not_converge_says_so(monkeypatch):
    assert probes.fit(clusters(1, 200, 1.0), 4, seed=0).converged
    monkeypatch.setattr(probes, "MOST_ITERATIONS", 2)
    assert not probes.fit(clusters(1, 200, 1.0), 4, seed=0).converged


def test_collapse_is_a_low_rank_compared_with_an_untrained_encoder_and_what_is_possible():
    nothing = significance.difference(np.zeros(100), np.zeros(100))
    better = significance.difference(np.ones(100), np.zeros(100))
    # A perfect encoder of 1,000 classes in 512 dimensions cannot have a rank of 999.
    assert not findings.collapsed(480, 60, 512, nothing)
    # A perfect encoder of ten classes fills few directions, but its probe beats that of the untrained encoder.
    assert findings.collapsed(9.5, 40, 512, nothing)
    assert not findings.collapsed(9.5, 40, 512, better)
    # All embeddings are equal, also those of the untrained encoder: the images are.
    assert findings.collapsed(1, 1, 512, nothing)
    assert findings.collapsed(0, 0, 512, None)
    # Few images have a low rank.
    assert not findings.collapsed(1, 1, 1, nothing)
    # Before training, the rank is low, too.
    assert not findings.collapsed(15, 20, 512, nothing)


def test_the_rank_is_that_of_rows_from_everywhere_in_the_split(monkeypatch):
    """Rows are often sorted by class: the first ones would be of few classes."""
    monkeypatch.setattr(findings, "_MOST_IMAGES_FOR_RANK", 200)
    features = np.repeat(np.eye(20, dtype=np.float32), 100, axis=0)
    found = findings.find(Copies({}, (), ()), features, features, None, (), ())
    assert found.rank_me == pytest.approx(20, abs=1)
    assert found.findings == ()


def write_examples(directory: Path, counts: dict[str, int], seed: int = 0, folds: int = 0, black: bool = False) -> str:
    """Coloured squares, whose colour is their class, as ImageExampleGen leaves them."""
    rng = np.random.default_rng(seed)
    colours = np.array([[150, 0, 0], [0, 150, 0], [0, 0, 150]])
    for split, count in counts.items():
        (directory / f"Split-{split}").mkdir(parents=True)
        with tf.io.TFRecordWriter(str(directory / f"Split-{split}" / "data_tfrecord-00000-of-00001")) as writer:
            for i in range(count):
                image = (rng.integers(0, 30, (32, 32, 3)) + colours[i % 3]).astype(np.uint8) * (not black)
                membership = (i % folds,) if folds and split == "train" else ()
                writer.write(to_example(Picture(split, i, f"{split}/{i}", image, i % 3, membership), image))
    description = {
        **{"image_size": 32, "counts": counts, "class_names": ["red", "green", "blue"]},
        **{"source": str(directory), "fingerprint": f"seed {seed}", "kind": "test", "rejected": 0},
    }
    (directory / "dataset.json").write_text(json.dumps(description))
    return str(directory)


def export_model(directory: Path, seed: int, constant: bool = False) -> str:
    keras.utils.set_random_seed(seed)
    encoder = build_encoder(SETTINGS.encoder, (32, 32))
    if constant:
        encoder.set_weights([np.zeros_like(w) for w in encoder.get_weights()])
    export.export_encoder(encoder, SETTINGS, (32, 32), str(directory / "Format-Serving"))
    return str(directory)


def evaluated(
    tmp_path: Path,
    examples_dir: str,
    model: str,
    champion: RegisteredModel | None = None,
    labelled: str | None = None,
    best_release: RegisteredModel | None = None,
    **settings,
):
    scratch, local = (Path(tempfile.mkdtemp(dir=tmp_path)) for _ in range(2))
    inputs = Inputs(examples_dir, labelled or examples_dir, model, champion, str(scratch), local, best_release)
    return evaluation.evaluate(EvaluatorSettings(**{"least_test_images": 1} | settings), inputs)


def test_evaluation_of_real_models_with_and_without_champion(tmp_path):
    examples_dir = write_examples(tmp_path / "examples", {"unlabelled": 300, "train": 60, "test": 30}, folds=4)
    model = f"{export_model(tmp_path / 'good', seed=1)}/Format-Serving"
    alone = evaluated(tmp_path, examples_dir, model, floor=0.9, fine_tuning=FineTuningSettings(epochs=3))
    found = alone.metrics
    assert found.probe_accuracy == 1.0
    assert found.class_accuracy == {"red": 1.0, "green": 1.0, "blue": 1.0}
    assert found.class_counts == {"red": 10, "green": 10, "blue": 10}
    assert found.confusion == ((10, 0, 0), (0, 10, 0), (0, 0, 10))
    assert found.champion_accuracy is None
    assert found.knn == {20: 1.0, 200: pytest.approx(1.0, abs=0.2)}
    assert found.folds == Repeated(mean=1.0, deviation=0.0, runs=4, images=15)
    assert {share: result.images for share, result in found.label_shares.items()} == {0.01: 3, 0.1: 6}
    assert found.fine_tuned_accuracy > 0.6
    assert found.embedding_size == 64
    assert 1 < found.rank_me < 30
    # The untrained twin sees colours as well: a candidate must beat it, not equal it.
    assert found.untrained_accuracy == 1.0
    assert found.blessed is False
    (reason,) = found.reasons
    assert "does not beat the 100.0% of an untrained encoder" in reason
    table = pq.read_table(io.BytesIO(alone.predictions)).to_pylist()
    assert [row["id"] for row in table] == [f"test/{i}" for i in range(30)]
    assert [row["label"] for row in table] == ["red", "green", "blue"] * 10
    assert all(row["predicted"] == row["label"] and 1 / 3 < row["probability"] <= 1 for row in table)
    nearest = [[int(name.removeprefix("train/")) % 3 for name in row["nearest"]] for row in table]
    assert nearest == [[i % 3] * 5 for i in range(30)]
    # Row numbers lead back to the images: those of a class have its colour.
    reds = np.flatnonzero(alone.candidate.test.labels == 0)[[0, 5, 9]]
    assert (alone.images("test", reds).mean((1, 2)).argmax(-1) == 0).all()

    collapsed = f"{export_model(tmp_path / 'bad', seed=1, constant=True)}/Format-Serving"
    champion = RegisteredModel(Champion(name="colours", version=4), model)
    against = evaluated(tmp_path, examples_dir, collapsed, champion).metrics
    assert against.probe_accuracy == pytest.approx(1 / 3)
    assert (against.champion, against.champion_accuracy) == ("colours version 4", 1.0)
    assert against.over_champion.mean == pytest.approx(-2 / 3)
    assert any("behind the 100.0% of the champion colours version 4" in reason for reason in against.reasons)
    assert any("the encoder has collapsed" in finding for finding in against.findings)


def test_embeddings_from_beam_are_the_models_own_in_the_order_of_the_records(tmp_path, monkeypatch):
    # Three images fill a chunk.
    monkeypatch.setattr(embedding, "CHUNK_BYTES", 3 * 2 * 32 * 32 * 3 + 2_000)
    examples_dir = write_examples(tmp_path / "examples", {"unlabelled": 5, "train": 40, "test": 20})
    model = f"{export_model(tmp_path / 'good', seed=1)}/Format-Serving"
    result = evaluated(tmp_path, examples_dir, model, beat_untrained=False)
    rows = np.random.default_rng(0).permutation(20)
    pixels = result.images("test", rows)
    np.testing.assert_allclose(
        result.candidate.test.features[rows], export.Embeddings.of_export(model)(pixels), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(result.candidate.test.labels, np.arange(20) % 3)
    assert result.metrics.blessed is True
    assert result.metrics.checks == ()


def write_stored(directory: Path, shapes: list[tuple[int, int]]) -> tuple[dict[str, list[str]], list[np.ndarray]]:
    """Noise in these sizes in one file of the split `test`, and the images."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    path = str(directory / "images.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for i, image in enumerate(images):
            writer.write(to_example(Picture("test", i, str(i), image, 0), image, 32))
    return {"test": [path]}, images


def test_each_encoder_is_given_the_stored_images_in_its_own_size(tmp_path):
    files, images = write_stored(tmp_path, [(96, 128), (80, 80), (20, 40)])
    encoders = {}
    for size in (32, 64):
        encoders[f"of {size}"] = embedding.Encoder(str(tmp_path / f"{size}"), (size, size))
        export.export_encoder(
            build_encoder(SETTINGS.encoder, (size, size)), SETTINGS, (size, size), encoders[f"of {size}"].directory
        )
    with beam.Pipeline() as pipeline:
        _ = pipeline | embedding.EmbedImages(files, (32, 32), encoders, str(tmp_path / "out"), 3)
    for name, (directory, size) in encoders.items():
        found = embedding.read_features(str(tmp_path / "out"), name, "test", tmp_path / f"map {name}").values
        fitted = np.concatenate([np.round(fitting.fit(image[np.newaxis], size)) for image in images]).astype(np.uint8)
        np.testing.assert_allclose(found, export.Embeddings.of_export(directory)(fitted), rtol=1e-5, atol=1e-6)
    # Copies are found by the hashes at one size, whatever the encoders take.
    thumbnails = np.concatenate([np.round(fitting.fit(image[np.newaxis], (32, 32))) for image in images])
    expected = duplicates.hashes(thumbnails.astype(np.uint8))
    for kind, found in embedding.read_rows(str(tmp_path / "out"), "test").hashes.items():
        np.testing.assert_array_equal(found, expected[kind])


@pytest.mark.parametrize(("shape", "most"), [((512, 512), 10), ((2048, 2048), 1)])
def test_chunks_and_batches_are_of_bytes_whatever_the_size_of_the_images(tmp_path, shape, most):
    """Stored images of any size beside a thumbnail: what is stored counts as well as what is given to an encoder."""
    count = most + 1
    files, _ = write_stored(tmp_path, [shape] * count)
    taken = []
    chunks = embedding._ReadChunks((32, 32), {(512, 512)}, count)
    chunks.setup()
    for chunk in chunks.process(("test", 0, files["test"][0])):
        assert chunk.position.first == sum(taken)
        taken.append(len(chunk.rows["labels"]))
    per_image = 3 * (shape[0] * shape[1] + 512 * 512 + 32 * 32)
    assert sum(taken) == count
    # A record has some bytes more than its pixels.
    assert max(taken) == most
    assert most <= max(1, embedding.CHUNK_BYTES // per_image)
    assert export.batch_of((512, 512)) * 512 * 512 * 3 <= 8 * 2**20
    assert export.batch_of((32, 32)) == 256
    assert export.batch_of((4096, 4096)) == 1


@pytest.mark.long
def test_a_champion_of_another_size_is_given_the_stored_images_in_its_own(tmp_path):
    """The classes differ in stripes of one pixel only, which images of 32 pixels do not show."""
    rng = np.random.default_rng(0)
    examples_dir = Path(write_examples(tmp_path / "examples", {"unlabelled": 3, "train": 0, "test": 0}))
    counts = {"train": 60, "test": 30}
    for split, count in counts.items():
        file = next((examples_dir / f"Split-{split}").iterdir())
        with tf.io.TFRecordWriter(str(file)) as writer:
            for i in range(count):
                stripes = (np.indices([64, 64])[i % 3 % 2] % 2 * 120 if i % 3 else np.full([64, 64], 60))[
                    ..., np.newaxis
                ]
                image = (stripes + rng.integers(0, 30, (64, 64, 3)) + rng.integers(0, 60)).astype(np.uint8)
                writer.write(to_example(Picture(split, i, f"{split}/{i}", image, i % 3), image, 32))
    description = json.loads((examples_dir / "dataset.json").read_text())
    (examples_dir / "dataset.json").write_text(json.dumps(description | {"counts": {"unlabelled": 3, **counts}}))
    model = f"{export_model(tmp_path / 'small', seed=1)}/Format-Serving"
    keras.utils.set_random_seed(2)
    export.export_encoder(build_encoder(SETTINGS.encoder, (64, 64)), SETTINGS, (64, 64), str(tmp_path / "large"))
    champion = RegisteredModel(Champion(name="stripes", version=4), str(tmp_path / "large"))
    found = evaluated(tmp_path, str(examples_dir), model, champion, label_shares=(), neighbours=(5,)).metrics
    assert found.probe_accuracy < 0.8
    assert found.champion_accuracy > 0.9


def test_images_are_read_back_by_their_record_numbers_in_any_order_and_repeatedly(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 8, 8, 3), np.uint8)
    files = [str(tmp_path / f"{shard}") for shard in range(2)]
    for file, of_shard in zip(files, images, strict=True):
        with tf.io.TFRecordWriter(file) as writer:
            for i, image in enumerate(of_shard):
                writer.write(to_example(Picture("test", i, str(i), image, 0), image))
    records = np.array([[1, 4], [0, 3], [1, 0], [0, 3], [1, 2]])
    np.testing.assert_array_equal(embedding.images_at(files, records, (8, 8)), images[records[:, 0], records[:, 1]])


def test_damaged_records_are_named(tmp_path):
    path = str(tmp_path / "records")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b"x" * 100)
    content = bytearray(Path(path).read_bytes())
    content[50] ^= 1
    Path(path).write_bytes(content)
    for read in (
        lambda: list(embedding._in_chunks(path, 0)),
        lambda: embedding.images_at([path], np.array([[0, 0]]), (8, 8)),
    ):
        with pytest.raises(DataError, match=rf"{path} is damaged.*nnclr run --no-cache writes"):
            read()


def test_a_registered_version_that_cannot_be_loaded_is_no_reason_to_end(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    (tmp_path / "saved_model.pb").write_bytes(b"text")
    problem = evaluation._embedding_problem(Encoder(str(tmp_path), (32, 32)))
    assert problem.startswith(f"The SavedModel in {tmp_path} cannot be read (")


@pytest.mark.long
def test_a_champion_that_embeds_nothing_stops_a_release_and_says_how_to_go_on(tmp_path):
    examples_dir = write_examples(tmp_path / "examples", {"unlabelled": 3, "train": 30, "test": 12})
    model = f"{export_model(tmp_path / 'good', seed=1)}/Format-Serving"
    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    champion = RegisteredModel(Champion(name="colours", version=4), str(tmp_path / "empty"))
    settings = {"beat_untrained": False, "label_shares": (), "neighbours": (5,)}
    refused = evaluated(tmp_path, examples_dir, model, champion, **settings).metrics
    assert refused.blessed is False
    (reason,) = refused.reasons
    assert "The champion colours version 4 cannot be compared (The SavedModel in " in reason
    assert "KeyError: 'embed_pixels'" in reason
    assert "--accept-baseline-reset" in reason
    allowed = evaluated(tmp_path, examples_dir, model, champion, accept_baseline_reset=True, **settings).metrics
    assert allowed.blessed is True
    assert allowed.champion_accuracy is None


class NotFinite(tf.Module):
    """An encoder like those of nnclr, which embeds red images as NaN."""

    def __init__(self, directory: str):
        super().__init__()
        self._model = tf.saved_model.load(directory)

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.uint8, name="pixels")])
    def embed_pixels(self, pixels):
        embeddings = self._model.signatures["embed_pixels"](pixels=pixels)["embeddings"]
        red = tf.reduce_mean(tf.cast(pixels, tf.float32), [1, 2])[:, :1] > 100
        return {"embeddings": tf.where(red, np.nan, embeddings)}


def test_embeddings_that_are_not_finite_end_no_evaluation(tmp_path):
    examples_dir = write_examples(tmp_path / "examples", {"unlabelled": 3, "train": 30, "test": 12})
    model = f"{export_model(tmp_path / 'good', seed=1)}/Format-Serving"
    broken = NotFinite(model)
    tf.saved_model.save(broken, str(tmp_path / "broken"), signatures={"embed_pixels": broken.embed_pixels})
    champion, best = (
        RegisteredModel(Champion(name="colours", version=version), str(tmp_path / "broken")) for version in (4, 3)
    )
    settings = {"beat_untrained": False, "label_shares": (), "neighbours": (5,)}
    found = evaluated(tmp_path, examples_dir, model, champion, best_release=best, **settings).metrics
    (reason,) = found.reasons
    assert "(it gives no finite embedding of 14 labelled images): the encoder is not released" in reason
    (finding,) = [sentence for sentence in found.findings if "best release" in sentence]
    assert finding.startswith("The best release so far, colours version 3, cannot be compared (it gives no finite")
    copy = tmp_path / "broken" / "assets.extra"
    copy.mkdir()
    (copy / "nnclr.json").write_bytes(Path(model, "assets.extra", "nnclr.json").read_bytes())
    candidate = evaluated(tmp_path, examples_dir, str(tmp_path / "broken"), **settings).metrics
    assert candidate.reasons[0].startswith("The encoder gives no finite embedding of 14 labelled images")
    assert candidate.probe_accuracy > 0.6


@pytest.mark.long
def test_an_encoder_is_compared_with_the_best_release_as_well_as_with_the_champion(tmp_path):
    """The champion is bad, and a candidate that is as bad does not pass: an earlier release was better."""
    examples_dir = write_examples(tmp_path / "examples", {"unlabelled": 3, "train": 60, "test": 60})
    best = RegisteredModel(
        Champion(name="colours", version=1), f"{export_model(tmp_path / 'good', seed=1)}/Format-Serving"
    )
    bad = f"{export_model(tmp_path / 'bad', seed=1, constant=True)}/Format-Serving"
    champion = RegisteredModel(Champion(name="colours", version=2), bad)
    settings = {"beat_untrained": False, "label_shares": (), "neighbours": (5,)}
    found = evaluated(tmp_path, examples_dir, bad, champion, best_release=best, **settings).metrics
    passed = {check.name: check.passed for check in found.checks}
    assert passed == {"champion": True, "best_release": False}
    assert "behind the 100.0% of the best release so far, colours version 1: -66.7 points" in found.reasons[0]
    assert (found.best_release, found.best_release_accuracy) == ("colours version 1", 1.0)
    assert found.over_best_release.mean == pytest.approx(-2 / 3)


@pytest.mark.long
def test_a_separate_labelled_set_is_measured_and_copies_in_it_are_reported(tmp_path):
    pretraining = write_examples(tmp_path / "pretraining", {"unlabelled": 40, "train": 0, "test": 0})
    labelled = write_examples(tmp_path / "labelled", {"unlabelled": 0, "train": 30, "test": 12}, seed=0)
    model = f"{export_model(tmp_path / 'good', seed=1)}/Format-Serving"
    found = evaluated(tmp_path, pretraining, model, labelled=labelled, label_shares=()).metrics
    assert found.counts == {"unlabelled": 40, "train": 30, "test": 12}
    assert (found.data, found.labelled_data) == (pretraining, labelled)
    # Drawn with one seed, the first 30 of both are the same.
    assert found.duplicates["train in unlabelled"].exact == 30
    assert found.duplicates["test in train"].exact == 0
    copies = "30 of the 30 images of train also occur in unlabelled (30 identical"
    assert any(copies in finding for finding in found.findings)


@pytest.mark.long
def test_black_pictures_and_a_constant_encoder_are_measured_and_shown(tmp_path):
    """All embeddings coincide, on which t-SNE ended the process."""
    examples_dir = write_examples(tmp_path / "examples", {"unlabelled": 60, "train": 60, "test": 60}, black=True)
    model = f"{export_model(tmp_path / 'model', seed=1, constant=True)}/Format-Serving"
    result = evaluated(tmp_path, examples_dir, model, label_shares=(), neighbours=(5,))
    assert not result.metrics.blessed
    assert result.metrics.duplicates["test in train"] == Duplicates(images=60, exact=60, look=0)
    report = page.render(result, model, str(tmp_path))
    assert "The report shows no map of the embeddings: all embeddings are equal, up to rounding." in report
    assert report.count('class="missing"') == 1
    assert report.count('alt="image of ') == 2 * 8
