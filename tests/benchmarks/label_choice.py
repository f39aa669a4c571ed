"""Are the images that `nnclr suggest` chooses better to label than random ones?

python -m tests.benchmarks.label_choice EMBEDDINGS.parquet ... [--labels 20 50 100 200] [--seeds 5]

EMBEDDINGS.parquet is a file that `nnclr embed` wrote of a source with the splits `train` and `test`. The images of
`train` are the pool: the label of an image is revealed when the image is chosen. The choice goes on from each number of
labels to the next, knowing the labels so far. Prints the accuracy on `test` of the evaluator's linear probe, which is
fitted on the chosen images: the mean over the seeds and the standard deviation. The rules are

    random    chance
    margin    typical images up to the first number of labels, then always those with the least margin
    suggest   what `nnclr suggest` does
"""

import argparse
from collections.abc import Callable

import numpy as np

from components.embeddings import label_choice, reading
from components.linear_probe_evaluator import probes
from components.linear_probe_evaluator.probes import Labelled
from trainer import splits

#: Chooses `count` more rows of the pool: from its vectors, the labels that are known, `count` and a seed.
Rule = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]


def random(vectors: np.ndarray, known: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Chooses by chance."""
    free = np.flatnonzero(known == splits.NO_LABEL)
    return np.random.default_rng((seed, len(known) - len(free))).choice(free, count, replace=False)


def margin(vectors: np.ndarray, known: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Chooses images with a small margin, once there are labels."""
    if (known == splits.NO_LABEL).all():
        return suggest(vectors, known, count, seed)
    return label_choice.least_certain(vectors, known, count, seed)


def suggest(vectors: np.ndarray, known: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Chooses as the command does."""
    return label_choice.choose(vectors, known, count, seed)[0]


RULES: dict[str, Rule] = {rule.__name__: rule for rule in (random, margin, suggest)}


def read(path: str) -> tuple[Labelled, Labelled]:
    """Reads the embeddings and labels of `train` and `test`."""
    with reading.opened(path) as file:
        images = file.images()
        vectors = np.concatenate(list(file.vectors()))
    of = np.array(images["split"].to_pylist())
    labels = np.array([splits.NO_LABEL if label is None else label for label in images["label"].to_pylist()])
    train, test = (Labelled(vectors[of == split], labels[of == split]) for split in (splits.TRAIN, splits.TEST))
    return train, test


def accuracies(rule: Rule, train: Labelled, test: Labelled, labels: list[int], seed: int) -> list[float]:
    """Returns the accuracy with each number of labels."""
    known, found = np.full(len(train.labels), splits.NO_LABEL), []
    for total in labels:
        rows = rule(train.features, known, total - int((known != splits.NO_LABEL).sum()), seed)
        known[rows] = train.labels[rows]
        chosen = np.flatnonzero(known != splits.NO_LABEL)
        probe = probes.fit(train[chosen], int(train.labels.max()) + 1, seed)
        found.append(probes.score(probe, test).accuracy)
    return found


def main() -> None:
    """Prints a table for each file, each row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", nargs="+")
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 50, 100, 200])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    for path in arguments.embeddings:
        train, test = read(path)
        print(f"\n{path}: {len(train.labels):,} images to choose from, {len(test.labels):,} to test on\n")
        print(f"| rule | {' | '.join(f'{count} labels' for count in arguments.labels)} |")
        print(f"|{'---|' * (len(arguments.labels) + 1)}", flush=True)
        for name, rule in RULES.items():
            runs = [accuracies(rule, train, test, arguments.labels, seed) for seed in range(arguments.seeds)]
            columns = zip(np.mean(runs, 0), np.std(runs, 0, ddof=1), strict=True)
            figures = " | ".join(f"{100 * mean:.1f} ± {100 * deviation:.1f} %" for mean, deviation in columns)
            print(f"| {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
