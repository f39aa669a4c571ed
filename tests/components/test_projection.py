"""The map of embeddings: what can be drawn is drawn, and nothing ends the process that wants it."""

import numpy as np
import pytest

from components.linear_probe_evaluator import projection
from components.linear_probe_evaluator.projection import NoProjection, project

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 8))
PROGRAM = """
import io, os, sys, time
import numpy as np
def answer(points):
    content = io.BytesIO()
    np.save(content, points)
    sys.stdout.buffer.write(content.getvalue())
"""


def without_child(monkeypatch):
    """Any use of the child process fails."""
    monkeypatch.setattr(projection, "_PROGRAM", "/nonexistent")


def test_clusters_stay_apart_and_equal_embeddings_share_a_point():
    rows = ROWS.copy()
    rows[:30] += 30
    repeated = rows[np.arange(90) % 60]
    found = project(repeated.astype(np.float32))
    assert (found.method, found.distinct, found.points.shape) == ("t-SNE", 60, (90, 2))
    np.testing.assert_array_equal(found.points[60:], found.points[:30])
    one, two = found.points[:30], found.points[30:60]
    radius = max(np.linalg.norm(part - part.mean(0), axis=1).max() for part in (one, two))
    assert np.linalg.norm(one.mean(0) - two.mean(0)) > radius


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        pytest.param(np.zeros([60, 8]), "all embeddings are equal, up to rounding", id="zeros"),
        pytest.param(np.full([60, 8], 0.3, np.float32), "all embeddings are equal, up to rounding", id="equal"),
        pytest.param(1 + 1e-8 * ROWS, "all embeddings are equal, up to rounding", id="equal up to rounding"),
        pytest.param(ROWS[:1], "all embeddings are equal, up to rounding", id="one"),
        pytest.param(np.where(np.eye(60, 8), np.nan, ROWS), "some embeddings are not finite", id="NaN"),
        pytest.param(np.where(np.eye(60, 8), np.inf, ROWS), "some embeddings are not finite", id="infinite"),
    ],
)
def test_what_cannot_be_drawn_is_told(rows, reason, monkeypatch):
    without_child(monkeypatch)
    with pytest.raises(NoProjection, match=f"^{reason}$"):
        project(rows)


@pytest.mark.parametrize(
    ("rows", "distinct"),
    [
        pytest.param(ROWS[:3], 3, id="few"),
        pytest.param(ROWS[np.arange(60) % 5], 5, id="few distinct ones"),
        pytest.param(ROWS[np.arange(60) % 2], 2, id="two distinct ones"),
        pytest.param(ROWS[:, :1], 60, id="one dimension"),
    ],
)
def test_few_different_embeddings_are_drawn_by_their_principal_components(rows, distinct, monkeypatch):
    without_child(monkeypatch)
    found = project(rows)
    assert (found.method, found.distinct) == ("PCA", distinct)
    assert np.isfinite(found.points).all()
    assert len(np.unique(found.points, axis=0)) == distinct
    if distinct == 3:
        # A plane through three points contains their distances.
        one, other = (np.linalg.norm(p[1] - p[0]) / np.linalg.norm(p[2] - p[0]) for p in (rows, found.points))
        assert one == pytest.approx(other)


def test_the_scale_of_embeddings_does_not_matter():
    """Distances between large float32 numbers overflow, which ended the process with a segmentation fault."""
    found = project((ROWS * 5e37).astype(np.float32))
    assert (found.method, found.distinct) == ("t-SNE", 60)


@pytest.mark.parametrize(
    ("program", "seconds", "reason"),
    [
        ("os.kill(os.getpid(), 11)", 60, r"the process of t-SNE was ended by signal 11 \(Segmentation fault\)"),
        ("os.kill(os.getpid(), 9)", 60, r"the process of t-SNE was ended by signal 9 \(Killed\)"),
        ("raise MemoryError('large')", 60, r"the process of t-SNE failed with exit code 1 \(MemoryError: large\)"),
        ("time.sleep(60)", 0.5, r"t-SNE took longer than 0\.5 seconds"),
        ("answer(np.full([60, 2], np.nan))", 60, "t-SNE found no finite positions"),
    ],
)
def test_a_child_that_fails_is_told(program, seconds, reason, tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(PROGRAM + program)
    monkeypatch.setattr(projection, "_PROGRAM", str(tmp_path / "program.py"))
    with pytest.raises(NoProjection, match=f"^{reason}$"):
        project(ROWS, seconds)


def test_the_child_imports_neither_tensorflow_nor_what_draws():
    """It would take ten seconds more."""
    source = open(projection.__file__).read()
    assert [line for line in source.splitlines() if line.lstrip().startswith(("import ", "from "))] == [
        "import io",
        "import os",
        "import signal",
        "import subprocess",
        "import sys",
        "from typing import NamedTuple",
        "import numpy as np",
        "    from sklearn.decomposition import PCA",
        "    from sklearn.manifold import TSNE",
    ]
