"""Projects embeddings to two dimensions, in a process of its own.

scikit-learn's t-SNE ends its process with a segmentation fault if all points coincide or if distances overflow, and may
do so for other reasons. No drawing may end a run, so this file is also the program of a child process, which reads and
writes arrays in NumPy's format.
"""

import io
import os
import signal
import subprocess
import sys
from typing import NamedTuple

import numpy as np

# What t-SNE shows of fewer points depends more on chance than on the points.
_LEAST_FOR_TSNE = 50
_COMPONENTS, _PERPLEXITY = 50, 30
_PROGRAM = __file__
# 1,000 points take about 8 seconds.
_SECONDS = 300
# Embeddings that differ by less, as a share of the greatest value, differ by rounding: float32 has seven digits.
_ROUNDING = 1e-6


class NoProjection(Exception):
    """There is no projection; the text gives the reason as a part of a sentence."""


class Projection(NamedTuple):
    """Embeddings in two dimensions.

    Attributes:
        points: The positions, float64 [N, 2]; those of equal embeddings are equal.
        distinct: The number of different embeddings.
        method: `t-SNE`, or `PCA` if there are too few different embeddings for t-SNE.
    """

    points: np.ndarray
    distinct: int
    method: str


def project(features: np.ndarray, seconds: float = _SECONDS) -> Projection:
    """Projects embeddings by t-SNE in a child process, or by PCA if few of them differ.

    Args:
        features: The embeddings, [N, d].
        seconds: The time after which the child process is ended.

    Raises:
        NoProjection: If embeddings are not finite, if all are equal, or if the child process fails.
    """
    features = np.asarray(features, np.float64)
    if not np.isfinite(features).all():
        raise NoProjection("some embeddings are not finite")
    centred = features - features.mean(0)
    spread = np.abs(centred).max()
    if spread <= _ROUNDING * np.abs(features).max():
        raise NoProjection("all embeddings are equal, up to rounding")
    # Without the scale, distances between large numbers overflow.
    distinct, positions = np.unique(centred / spread, axis=0, return_inverse=True)
    if len(distinct) < _LEAST_FOR_TSNE or features.shape[1] < 2:
        points, method = _principal_components(distinct), "PCA"
    else:
        points, method = _in_child(distinct, seconds), "t-SNE"
    return Projection(points[positions], len(distinct), method)


def _principal_components(rows: np.ndarray) -> np.ndarray:
    """Returns the first two principal components, float64 [N, 2]; zeros if there is only one."""
    left, lengths, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    points = np.zeros([len(rows), 2])
    points[:, : len(lengths)] = (left * lengths)[:, :2]
    return points


def _in_child(rows: np.ndarray, seconds: float) -> np.ndarray:
    """Runs this file as a program on distinct rows, float64 [N, d], and returns its points, float64 [N, 2]."""
    content = io.BytesIO()
    np.save(content, rows, allow_pickle=False)
    # Without -P, files beside this one could replace modules of the same name.
    command = [sys.executable, "-P", _PROGRAM]
    # Where cores are shared, several threads wait for each other five times as long as one takes.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        child = subprocess.run(
            command, input=content.getvalue(), capture_output=True, env=environment, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NoProjection(f"t-SNE took longer than {seconds:g} seconds") from error
    except OSError as error:
        raise NoProjection(f"the process of t-SNE did not start: {error}") from error
    if child.returncode:
        raise NoProjection(f"the process of t-SNE {_end(child.returncode, child.stderr)}")
    points = np.load(io.BytesIO(child.stdout), allow_pickle=False)
    if not np.isfinite(points).all():
        raise NoProjection("t-SNE found no finite positions")
    return points


def _end(code: int, errors: bytes) -> str:
    if code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    last = errors.decode(errors="replace").strip().rpartition("\n")[2]
    return f"failed with exit code {code} ({last})"


def _tsne(rows: np.ndarray) -> np.ndarray:
    """Returns points, float64 [N, 2], for distinct rows, float64 [N, d]."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    components = PCA(min(_COMPONENTS, *rows.shape), random_state=0).fit_transform(rows)
    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(components).astype(np.float64)


def _main() -> None:
    rows = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    content = io.BytesIO()
    np.save(content, _tsne(rows), allow_pickle=False)
    sys.stdout.buffer.write(content.getvalue())


if __name__ == "__main__":
    _main()
