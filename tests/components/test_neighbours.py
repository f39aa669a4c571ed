"""Embeddings are read in chunks and compared in blocks: the results are those of a comparison of all with all."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.neighbors import NearestNeighbors

from components.embeddings import neighbours, reading
from tests.components import embedded
from trainer import splits, storage
from trainer.errors import SettingsError


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def at(*degrees: float) -> np.ndarray:
    """Returns embeddings of two values, by their angles."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1).astype(np.float32)


@pytest.fixture
def vectors(monkeypatch) -> np.ndarray:
    """50 embeddings, more than a block, of which some resemble others."""
    monkeypatch.setattr(neighbours, "_BLOCK", 8)
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=[50, 4])
    drawn[[9, 20, 30, 31, 49]] = drawn[[3, 3, 5, 30, 0]] + rng.normal(0, 0.01, [5, 4])
    return unit(drawn)


def test_the_nearest_of_all_chunks_without_the_query_itself(vectors):
    own = np.array([0, 7, 49])
    found = neighbours.nearest(vectors[own], (vectors[first : first + 8] for first in range(0, 50, 8)), 12, own)
    distances, rows = NearestNeighbors(n_neighbors=13, metric="cosine").fit(vectors).kneighbors(vectors[own])
    np.testing.assert_array_equal(found.rows, rows[:, 1:])
    np.testing.assert_allclose(found.similarities, 1 - distances[:, 1:], atol=1e-6)


def test_equally_similar_images_are_in_the_order_of_the_file_and_there_may_be_few():
    found = neighbours.nearest(at(0), iter([at(10, 0, -10), at(0)]), 12)
    assert found.rows.tolist() == [[1, 3, 0, 2]]


def test_the_score_of_an_outlier_is_the_mean_distance_to_its_nearest_neighbours(vectors):
    distances, _ = NearestNeighbors(n_neighbors=6, metric="cosine").fit(vectors).kneighbors(vectors)
    np.testing.assert_allclose(neighbours.mean_distances(vectors, 5), distances[:, 1:].mean(axis=1), atol=1e-6)


def test_each_image_that_is_not_kept_resembles_one_that_is_kept_before_it(vectors):
    order = np.concatenate([np.arange(25, 50), np.arange(25)])
    found = neighbours.duplicates(vectors, order, 0.9)
    similarities, kept, expected = vectors @ vectors.T, [], []
    for row in order.tolist():
        alike = [other for other in kept if similarities[row, other] >= 0.9]
        if alike:
            expected.append((row, max(alike, key=lambda other, row=row: similarities[row, other])))
        else:
            kept.append(row)
    assert list(zip(found.rows.tolist(), found.others.tolist(), strict=True)) == expected
    assert len(expected) > 10
    np.testing.assert_allclose(found.similarities, similarities[found.rows, found.others], atol=1e-6)


def test_a_chain_of_similar_images_is_no_group():
    # The second resembles the first, and the third the second but not the first.
    found = neighbours.duplicates(at(0, 10, 20), np.arange(3), np.cos(np.radians(12)))
    assert (found.rows.tolist(), found.others.tolist()) == ([1], [0])


def test_equal_images_are_duplicates_at_the_highest_threshold():
    vector = unit(np.random.default_rng(0).normal(size=[1, 512]))
    assert neighbours.duplicates(np.repeat(vector, 3, axis=0), np.arange(3), 1.0).rows.tolist() == [1, 2]


def test_images_of_both_sets_that_resemble_one_of_the_other(vectors):
    rows, others = np.arange(10, 50), np.arange(10)
    found, resembled = neighbours.resembling(vectors, rows, others, 0.9)
    similarities = (vectors @ vectors.T)[10:, :10]
    expected = np.flatnonzero(similarities.max(axis=1) >= 0.9)
    np.testing.assert_array_equal(found.rows, rows[expected])
    np.testing.assert_array_equal(found.others, similarities.argmax(axis=1)[expected])
    assert resembled == (similarities.max(axis=0) >= 0.9).sum()


@pytest.fixture
def path(tmp_path) -> str:
    """A file with seven images in parts of three, the fourth of them with an embedding of zeros."""
    numbers = np.arange(28).reshape(7, 4) * np.array([1, 1, 1, 0, 1, 1, 1])[:, np.newaxis]
    return embedded.write(tmp_path, numbers, [(splits.UNLABELLED, f"{i}.png", splits.NO_LABEL) for i in range(7)])


def test_embeddings_are_read_in_chunks_of_any_size(path):
    with reading.opened(path) as file:
        chunks = list(file.vectors(4))
        assert [len(chunk) for chunk in chunks] == [4, 3]
        np.testing.assert_array_equal(np.concatenate(chunks), np.concatenate(list(file.vectors())))
        np.testing.assert_array_equal([file.vector(row) for row in range(7)], np.concatenate(chunks))
        with neighbours.unit_matrix(file) as matrix:
            np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), [1, 1, 1, 0, 1, 1, 1], rtol=1e-6)
        assert file.images()["id"].to_pylist() == [f"{i}.png" for i in range(7)]


def test_what_is_no_file_of_embeddings_is_refused_by_its_name(tmp_path, path):
    (tmp_path / "text.parquet").write_text("text")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    (tmp_path / "cut.parquet").write_bytes(Path(path).read_bytes()[:-100])
    for name in ("text", "other", "cut"):
        with pytest.raises(SettingsError, match=rf"{name}\.parquet is not a whole file of embeddings"):
            reading.opened(str(tmp_path / f"{name}.parquet")).__enter__()
    table = pq.read_table(path)
    vectors = np.full((len(table), len(table["embedding"][0])), np.nan, np.float32)
    unfinite = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    place = table.schema.get_field_index("embedding")
    pq.write_table(table.set_column(place, table.schema.field(place), unfinite), tmp_path / "nan.parquet")
    with reading.opened(str(tmp_path / "nan.parquet")) as file:
        for read in (lambda: file.vector(3), lambda: list(file.vectors()), lambda: list(file.vectors(unit=True))):
            with pytest.raises(SettingsError, match=r"nan\.parquet is not a whole file of embeddings"):
                read()
    with pytest.raises(SettingsError, match=r"e\.npz is not a Parquet file"):
        reading.opened(str(tmp_path / "e.npz")).__enter__()


@pytest.mark.long
def test_a_file_in_a_bucket_is_read(path, bucket):
    files, target = storage.located(f"{bucket}/e.parquet")
    files.pipe_file(target, Path(path).read_bytes())
    with reading.opened(f"{bucket}/e.parquet") as file:
        assert sum(len(chunk) for chunk in file.vectors()) == 7
    with pytest.raises(SettingsError, match=r"none\.parquet does not exist"):
        reading.opened(f"{bucket}/none.parquet").__enter__()
