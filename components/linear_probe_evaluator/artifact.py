"""The artifacts of LinearProbeEvaluator.

`evaluation` holds `metrics.json`, `report.html` and, if there are labelled images, the fitted probe and
`predictions.parquet`. `blessing` holds TFX's file `BLESSED` or `NOT_BLESSED`, with a sentence for each requirement.
"""

import html
import io
from typing import Any, NamedTuple

import numpy as np
from pydantic import model_validator

from components import artifact_files
from components.artifact_files import Content
from components.data_gate.artifact import DataCheck

#: Keys of the output channels.
EVALUATION, BLESSING = "evaluation", "blessing"

#: A confusion matrix of more classes is too large to read.
MOST_CLASSES_IN_MATRIX = 20

# Text of the report that the registry's version replaces.
NOT_RELEASED = '<p id="release">Not released.</p>'

_METRICS, _REPORT, _PROBE, _PREDICTIONS = "metrics.json", "report.html", "probe.npz", "predictions.parquet"
# TFX's names.
_BLESSED, _NOT_BLESSED = "BLESSED", "NOT_BLESSED"

Interval = tuple[float, float]

# Names of fields in files that nnclr 0.1.0 wrote.
_FORMER_NAMES = {
    "random_encoder_accuracy": "untrained_accuracy",
    "random_encoder_interval": "untrained_interval",
    "over_random": "over_untrained",
    "baseline": "champion",
    "baseline_version": "champion_version",
    "baseline_accuracy": "champion_accuracy",
    "baseline_interval": "champion_interval",
    "over_baseline": "over_champion",
}


class Check(Content):
    """One requirement of a blessing.

    Attributes:
        passed: Whether the requirement is met.
        sentence: A sentence with the figures.
        name: Name of the requirement: that of its setting, or of what it compares with; empty in files of nnclr 0.1.0.
    """

    passed: bool
    sentence: str
    name: str = ""


class Difference(Content):
    """The difference of two accuracies on the same images, see `significance.difference`.

    Attributes:
        mean: The difference.
        low: Lower end of its paired 95 % interval.
        high: Upper end of this interval.
        images: Number of images; 0 in files of nnclr 0.1.0.
        differing: Number of images on which exactly one of the two encoders is right.
        p_value: Probability of a lead that is at least as large if both encoders are equally good (one-sided).
    """

    mean: float
    low: float
    high: float
    images: int = 0
    differing: int = 0
    p_value: float = 1.0


class Repeated(Content):
    """Accuracy of one protocol on the test split, over several subsets of the train split.

    Attributes:
        mean: Mean of the accuracies.
        deviation: Sample standard deviation of the accuracies.
        runs: Number of subsets.
        images: Number of images in each subset, on average.
    """

    mean: float
    deviation: float
    runs: int
    images: int


class CurvePoint(Content):
    """Accuracy with one number of labels, see `label_curves`.

    Attributes:
        labels: Number of labels.
        accuracy: Mean accuracy over the draws of so many labels.
        low: Lower end of the accuracy's 95 % interval.
        high: Upper end of this interval.
        draws: Number of draws.
    """

    labels: int
    accuracy: float
    low: float
    high: float
    draws: int


class Lead(Content):
    """Accuracy of an encoder minus that of another one, with one number of labels on the same test images.

    Attributes:
        labels: Number of labels.
        over: Name of the other encoder.
        mean: The difference.
        low: Lower end of its 95 % interval.
        high: Upper end of this interval.
    """

    labels: int
    over: str
    mean: float
    low: float
    high: float


class Compared(Content):
    """An encoder beside others: what it reaches and what it costs.

    Attributes:
        name: Name of the encoder.
        points: Accuracy by number of labels.
        knn_accuracy: kNN accuracy for the first k of `evaluator.neighbours`; None for a network without embeddings.
        image_size: Height and width of the images that it was given, in pixels.
        parameters: Number of its weights.
        size_bytes: Bytes of its SavedModel.
        training_seconds: Time that its training took; None if it is unknown.
        images_per_second: Number of images that it embeds in a second, on the machine of the evaluation.
        batch: Number of images that it was given at once for this.
    """

    name: str
    points: tuple[CurvePoint, ...]
    knn_accuracy: float | None
    image_size: tuple[int, int]
    parameters: int
    size_bytes: int
    training_seconds: float | None
    images_per_second: float
    batch: int


class Comparison(Content):
    """Several encoders on the same labelled images.

    Attributes:
        data: Path or URI of the images.
        fingerprint: Fingerprint of the images.
        counts: Number of images by split.
        models: The encoders, in the order in which they were named.
        leads: Accuracy of each encoder but the first, minus that of the first one, by number of labels.
        notes: A sentence for each reason to doubt the figures, and on how much repeated trainings differ.
    """

    data: str
    fingerprint: str
    counts: dict[str, int]
    models: tuple[Compared, ...]
    leads: dict[str, tuple[Lead, ...]]
    notes: tuple[str, ...] = ()


class Duplicates(Content):
    """Number of images of one split that occur in another one too.

    Attributes:
        images: Number of images in the first split.
        exact: Number of images whose pixels are equal to those of an image of the other split.
        look: Number of other images that look like an image of the other split, so that they may be the same picture.
        common: Number of other images that look like an image of the other split, but whose look is common in one of
            the splits, so that it says nothing about the picture.
    """

    images: int
    exact: int
    look: int
    common: int = 0


class Data(Content):
    """The images of an evaluation.

    Attributes:
        counts: Number of images by split.
        data: Path or URI of the images that the encoder was pretrained on.
        data_fingerprint: Fingerprint of these images.
        labelled_data: Path or URI of the labelled images.
        labelled_fingerprint: Fingerprint of the labelled images.
        left_out: Number of files at the source that the encoder was not pretrained on, by reason.
        data_checks: DataGate's verdicts on the images.
    """

    counts: dict[str, int] = {}
    left_out: dict[str, int] = {}
    data: str = ""
    data_fingerprint: str = ""
    labelled_data: str = ""
    labelled_fingerprint: str = ""
    data_checks: tuple[DataCheck, ...] = ()


class Verdict(Content):
    """The figures that decide on a blessing. Accuracies are None if there are no labelled images.

    Attributes:
        blessed: Whether the encoder meets every requirement.
        reasons: A sentence for each requirement that it misses.
        checks: All requirements.
        probe_accuracy: Accuracy of a linear probe on the test split.
        probe_interval: The accuracy's 95 % interval (Wilson).
        class_accuracy: Recall of the linear probe by class, in the order of the labels; None for a class without test
            images.
        untrained_accuracy: Accuracy of a linear probe on an untrained encoder of the same architecture.
        untrained_interval: Its 95 % interval.
        over_untrained: Lead of the encoder over the untrained one.
        champion: Name and version of the champion, if there is one.
        champion_version: Number of the champion's version.
        champion_accuracy: Accuracy of a linear probe on the champion, if it can be compared.
        champion_interval: Its 95 % interval.
        over_champion: Lead of the encoder over the champion.
        best_release: Name and version of the best release so far, if it is not the champion.
        best_release_accuracy: Accuracy of a linear probe on it, if it can be compared.
        over_best_release: Lead of the encoder over it.
    """

    blessed: bool = False
    reasons: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    probe_accuracy: float | None = None
    probe_interval: Interval | None = None
    class_accuracy: dict[str, float | None] = {}
    untrained_accuracy: float | None = None
    untrained_interval: Interval | None = None
    over_untrained: Difference | None = None
    champion: str | None = None
    champion_version: int | None = None
    champion_accuracy: float | None = None
    champion_interval: Interval | None = None
    over_champion: Difference | None = None
    best_release: str | None = None
    best_release_accuracy: float | None = None
    over_best_release: Difference | None = None


class Reported(Content):
    """The figures that are reported without influence on the blessing.

    Attributes:
        probe_strength: Inverse regularisation of the probe.
        class_counts: Number of test images by class.
        confusion: Number of test images by true class (rows) and predicted class (columns), in the order of the labels;
            empty for more than `MOST_CLASSES_IN_MATRIX` classes.
        knn_accuracy: kNN accuracy for the first k of `evaluator.neighbours`.
        knn: kNN accuracy by k.
        folds: Accuracy of probes on STL-10's predefined folds.
        label_shares: Accuracy of probes on shares of the labels.
        calibration_error: Expected calibration error of the probe's probabilities (arXiv 1706.04599).
        fine_tuned_accuracy: Accuracy of the encoder after fine-tuning all of it.
        embedding_size: Length of an embedding.
    """

    probe_strength: float | None = None
    class_counts: dict[str, int] = {}
    confusion: tuple[tuple[int, ...], ...] = ()
    knn_accuracy: float | None = None
    knn: dict[int, float] = {}
    folds: Repeated | None = None
    label_shares: dict[float, Repeated] = {}
    calibration_error: float | None = None
    fine_tuned_accuracy: float | None = None
    embedding_size: int | None = None


class Worth(Content):
    """The encoder beside its references; empty if `evaluator.references` names none.

    Attributes:
        references: The encoders that were measured, this one first.
        leads: Lead of this encoder over the best reference that is an alternative to pretraining, by number of labels;
            the intervals hold together.
        worth: The answer in a sentence.
    """

    references: tuple[Compared, ...] = ()
    leads: tuple[Lead, ...] = ()
    worth: str = ""


class ViewQuality(Content):
    """An encoder's figures without labels, see `trainer.view_metrics`.

    Attributes:
        neighbour_consistency: Share of the images whose first view has its nearest neighbour, among the second views of
            all images, in the second view of the same image.
        interval: Its 95 % interval (Wilson).
        alignment: Mean squared distance of an image's two views on the unit sphere (arXiv 2005.10242).
        uniformity: How evenly the first views fill the unit sphere (arXiv 2005.10242).
        rank_me: Effective rank of the embeddings of the first views (RankMe, arXiv 2210.02885).
        lidar: Number of directions in which images differ by more than their views (LiDAR, arXiv 2312.04000).
    """

    neighbour_consistency: float
    interval: Interval
    alignment: float
    uniformity: float
    rank_me: float
    lidar: float


class LabelFree(Content):
    """What was measured on unlabelled images, with the same views of the same images for all encoders.

    Attributes:
        images: Number of images, a random sample of those of the pretraining.
        views: Number of views of each image.
        candidate: Figures of the encoder.
        champion: Figures of the champion, if it can be compared.
        best_release: Figures of the best release so far, if it is not the champion and can be compared.
        untrained: Figures of an untrained encoder of the same architecture.
        over_untrained: Lead in neighbour consistency over the untrained encoder.
        over_champion: Lead in neighbour consistency over the champion.
        over_best_release: Lead in neighbour consistency over the best release.
    """

    images: int
    views: int
    candidate: ViewQuality
    champion: ViewQuality | None = None
    best_release: ViewQuality | None = None
    untrained: ViewQuality
    over_untrained: Difference
    over_champion: Difference | None = None
    over_best_release: Difference | None = None

    def encoders(self) -> dict[str, ViewQuality]:
        """Returns the figures of each encoder that was measured, by its name for people."""
        named = {
            "this encoder": self.candidate,
            "champion": self.champion,
            "best release so far": self.best_release,
            "untrained encoder": self.untrained,
        }
        return {name: quality for name, quality in named.items() if quality}


class WithoutLabels(Content):
    """What is measured if there are no labelled images.

    Attributes:
        label_free: The figures; None if there are labelled images.
    """

    label_free: LabelFree | None = None


class Findings(Content):
    """What makes the other figures doubtful.

    Attributes:
        rank_me: Effective rank of the test embeddings (RankMe, arXiv 2210.02885).
        untrained_rank_me: Effective rank of the embeddings of an untrained encoder.
        duplicates: Images that occur in two splits, by the names of the splits.
        findings: A sentence for each problem.
    """

    rank_me: float | None = None
    untrained_rank_me: float | None = None
    duplicates: dict[str, Duplicates] = {}
    findings: tuple[str, ...] = ()


class MainFigure(NamedTuple):
    """The figure by which encoders are compared: what it measures, a share, and its 95 % interval."""

    measure: str
    share: float
    interval: Interval


class Metrics(Findings, Worth, WithoutLabels, Reported, Verdict, Data):
    """Everything that an evaluation measures: the content of `metrics.json`."""

    @classmethod
    def of(cls, *groups: Content) -> "Metrics":
        """Joins groups of figures. The fields of a group that is missing keep their defaults."""
        return cls(**{name: value for group in groups for name, value in group})

    @model_validator(mode="before")
    @classmethod
    def _read_former_names(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {_FORMER_NAMES.get(name, name): value for name, value in content.items()}

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the labels."""
        return list(self.class_accuracy)

    @property
    def anomalies(self) -> tuple[str, ...]:
        """What DataGate found wrong with the images, a sentence for each finding."""
        return tuple(sentence for check in self.data_checks if not check.passed for sentence in check.sentences)

    @property
    def main_figure(self) -> MainFigure | None:
        """The accuracy of the linear probe, or without labels the neighbour consistency; None if neither is known."""
        if self.label_free:
            quality = self.label_free.candidate
            return MainFigure("neighbour consistency", quality.neighbour_consistency, quality.interval)
        if self.probe_accuracy is None or self.probe_interval is None:
            return None
        return MainFigure("linear probe", self.probe_accuracy, self.probe_interval)


class ProbeWeights(NamedTuple):
    """The fitted probe: weights, float32 [d, classes], and bias, float32 [classes]."""

    weights: np.ndarray
    bias: np.ndarray


def write_evaluation(
    directory: str, metrics: Metrics, report: str, probe: ProbeWeights | None, predictions: bytes | None = None
) -> None:
    """Writes the artifact `evaluation`; `metrics.json`, which completes it, comes last.

    Args:
        directory: Path or URI of the artifact.
        metrics: What was measured.
        report: The report as HTML.
        probe: The fitted probe; None if there are no labelled images.
        predictions: The probe's predictions, see `predictions.parquet`; None if there are no labelled images.
    """
    if predictions:
        artifact_files.write(f"{directory}/{_PREDICTIONS}", predictions)
    if probe:
        content = io.BytesIO()
        np.savez(content, weights=probe.weights, bias=probe.bias)
        artifact_files.write(f"{directory}/{_PROBE}", content.getvalue())
    write_report(directory, report)
    artifact_files.write_json(f"{directory}/{_METRICS}", metrics)


def read_metrics(directory: str) -> Metrics:
    """Reads `metrics.json` in the artifact `evaluation`."""
    return artifact_files.read_json(f"{directory}/{_METRICS}", Metrics)


def read_probe(directory: str) -> ProbeWeights:
    """Reads the fitted probe in the artifact `evaluation`.

    Raises:
        DamagedFile: If the file holds something else.
        FileNotFoundError: If there were no labelled images.
    """
    return ProbeWeights(*artifact_files.read_arrays(f"{directory}/{_PROBE}", "weights", "bias"))


def write_report(directory: str, report: str) -> None:
    """Writes `report.html`."""
    artifact_files.write(report_path(directory), report.encode())


def read_report(directory: str) -> str:
    """Reads `report.html`."""
    return artifact_files.read(report_path(directory)).decode()


def report_path(directory: str) -> str:
    """Returns the path or URI of the report in an artifact."""
    return f"{directory}/{_REPORT}"


def released_report(
    report: str, name: str, version: int, uri: str, link: str | None, not_promoted: str | None = None
) -> str:
    """Returns the report with the registry's version in it.

    Args:
        report: The report as HTML.
        name: Name of the registered model.
        version: Number of the version.
        uri: URI of the version, as MLflow's clients take it.
        link: Address of the version's page on the MLflow server; None if the registry is an embedded one.
        not_promoted: Why the version is not the champion, in sentences; None if it is.

    Raises:
        ValueError: If the report has no place for a version.
    """
    if NOT_RELEASED not in report:
        raise ValueError("the report has no place for a registry version")
    text = html.escape(f"{name} version {version}")
    linked = f'<a href="{html.escape(link)}">{text}</a>' if link else text
    verb, reason = ("Registered", f" {html.escape(not_promoted)}") if not_promoted else ("Released", "")
    released = f'<p id="release">{verb} as {linked}, <code>{html.escape(uri)}</code>.{reason}</p>'
    return report.replace(NOT_RELEASED, released, 1)


def write_blessing(directory: str, metrics: Metrics) -> None:
    """Writes the artifact `blessing`."""
    sentences = [check.sentence for check in metrics.checks] if metrics.blessed else metrics.reasons
    name = _BLESSED if metrics.blessed else _NOT_BLESSED
    artifact_files.write(f"{directory}/{name}", "\n".join(sentences).encode())


def is_blessed(directory: str) -> bool:
    """Returns whether the artifact `blessing` blesses. The file counts: custom properties get lost on Kubeflow."""
    return artifact_files.exists(f"{directory}/{_BLESSED}")
