"""Judges the images of a run by the statistics of their splits. Each finding is a sentence that says what to do."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from components.data_gate import comparison
from components.data_gate.artifact import DataCheck
from components.data_gate.config import GateSettings
from components.data_gate.statistics import Split, Statistics
from trainer import examples, splits

# Contrasts below this value look like a single brightness.
_NEAR_CONSTANT = 0.02
# Noise that ingest made smaller reaches a smoothness of 0.3, and photographs of 32 pixels have 0.5 and more.
_NOISE = 0.4
_SHOWN_CLASSES = 5


@dataclass(frozen=True)
class Champion:
    """The champion, for the check of drift.

    Attributes:
        name: Its name and version.
        statistics: Statistics of the splits of its run, by title; empty if it was released without statistics.
    """

    name: str
    statistics: dict[str, Statistics]


@dataclass(frozen=True)
class _Result:
    """A check's findings, and the sentence that holds if there are none."""

    findings: list[str]
    passed: str


def judge(
    settings: GateSettings, found: list[Split], anomalies: list[str], champion: Champion | None
) -> tuple[DataCheck, ...]:
    """Makes every check that is switched on.

    Args:
        settings: The checks and their bounds.
        found: The splits that have images.
        anomalies: A sentence for each anomaly that ExampleValidator found.
        champion: The champion; None if there is none.

    Returns:
        One verdict per check, in the order of the settings.
    """
    makers: dict[str, Callable[[], _Result]] = {
        "anomalies": lambda: _anomalies(anomalies),
        "split_size": lambda: _split_size(found, settings.min_split_size),
        "class_size": lambda: _class_size(found, settings.min_class_size),
        "class_imbalance": lambda: _class_imbalance(found, settings.max_class_imbalance),
        "exact_duplicates": lambda: _exact_duplicates(found, settings.max_exact_duplicates),
        "near_duplicates": lambda: _near_duplicates(found, settings.max_near_duplicates),
        "constant": lambda: _constant(found, settings.max_constant),
        "near_constant": lambda: _near_constant(found, settings.max_near_constant),
        "noise": lambda: _noise(found, settings.max_noise),
        "brightness": lambda: _brightness(found, settings.min_brightness, settings.max_brightness),
        "contrast": lambda: _contrast(found, settings.min_contrast, settings.max_contrast),
        "skew": lambda: _skew(found, settings.max_skew),
        "drift": lambda: _drift(found, champion, settings.max_drift),
    }
    results = {name: make() for name, make in makers.items() if getattr(settings, name) != "off"}
    return tuple(
        DataCheck(name=name, passed=not result.findings, sentences=tuple(result.findings or [result.passed]))
        for name, result in results.items()
    )


def _anomalies(sentences: list[str]) -> _Result:
    findings = [*sentences, "The rules are in pipeline/schema/schema.pbtxt."] if sentences else []
    return _Result(findings, "ExampleValidator found no anomalies.")


def _split_size(found: list[Split], least: int) -> _Result:
    findings = [
        f"Split {split.title} has {_images(split.count)}, fewer than {least:,} (gate.min_split_size): add images."
        for split in found
        if split.count < least
    ]
    return _Result(findings, f"Each split that has images has at least {least:,}.")


def _class_size(found: list[Split], least: int) -> _Result:
    findings = []
    for split in _labelled(found):
        small = sorted((count, name) for name, count in split.class_counts.items() if count < least)
        if small:
            shown = ", ".join(f"{name} has {count}" for count, name in small[:_SHOWN_CLASSES])
            more = ", for instance" if len(small) > _SHOWN_CLASSES else ""
            classes = "1 class has" if len(small) == 1 else f"{len(small):,} classes have"
            findings.append(
                f"In split {split.title}, {classes} fewer than {least:,} images (gate.min_class_size){more}: {shown}. "
                "Add images of these classes, or leave the classes out."
            )
    return _Result(findings, f"Each class has at least {least:,} images in each labelled split.")


def _class_imbalance(found: list[Split], largest: float) -> _Result:
    findings, worst = [], 1.0
    for split in _labelled(found):
        counts = {name: count for name, count in split.class_counts.items() if count}
        most, fewest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        ratio = counts[most] / counts[fewest]
        worst = max(worst, ratio)
        if ratio > largest:
            findings.append(
                f"In split {split.title}, class {most} has {_images(counts[most])} and class {fewest} has "
                f"{counts[fewest]:,}: {ratio:.0f} times as many, more than {largest:g} times "
                f"(gate.max_class_imbalance). Add images of {fewest}, or remove images of {most}."
            )
    return _Result(findings, f"No class has more than {worst:.1f} times the images of another one in its split.")


def _exact_duplicates(found: list[Split], largest: float) -> _Result:
    return _share(
        found,
        largest,
        "gate.max_exact_duplicates",
        lambda split: split.share_of_repeats(examples.EXACT_HASH),
        "repeat another one pixel by pixel",
        lambda split: (
            f"The most frequent one occurs {split.most_frequent(examples.EXACT_HASH):,} times. Remove the copies."
        ),
    )


def _near_duplicates(found: list[Split], largest: float) -> _Result:
    return _share(
        found,
        largest,
        "gate.max_near_duplicates",
        lambda split: split.share_of_repeats(examples.LOOK_HASH),
        "look like another one",
        lambda split: (
            f"The most frequent look occurs {split.most_frequent(examples.LOOK_HASH):,} times. "
            "Remove copies, and frames of a film that hardly differ."
        ),
    )


def _constant(found: list[Split], largest: float) -> _Result:
    return _share(
        found,
        largest,
        "gate.max_constant",
        lambda split: split.share_of_zeros(examples.CONTRAST),
        "have a single brightness",
        lambda split: (
            f"The mean brightness of the split is {split.mean(examples.PIXEL_MEAN):.2f}, where black is 0 and "
            "white is 1. Check how the pictures were made."
        ),
    )


def _near_constant(found: list[Split], largest: float) -> _Result:
    return _share(
        found,
        largest,
        "gate.max_near_constant",
        lambda split: split.share_below(examples.CONTRAST, _NEAR_CONSTANT),
        f"have almost a single brightness (their contrast is below {_NEAR_CONSTANT})",
        lambda split: "Remove empty pictures.",
    )


def _noise(found: list[Split], largest: float) -> _Result:
    return _share(
        found,
        largest,
        "gate.max_noise",
        lambda split: split.share_below(examples.SMOOTHNESS, _NOISE),
        f"are noise (the correlation of neighbouring pixels is below {_NOISE})",
        lambda split: "Check how the pictures were decoded before they were stored.",
    )


def _share(
    found: list[Split],
    largest: float,
    setting: str,
    measure: Callable[[Split], float],
    what: str,
    advice: Callable[[Split], str],
) -> _Result:
    """Checks that at most a share of the images of each split have a property."""
    shares = [(split, measure(split)) for split in found]
    findings = [
        f"{share:.1%} of the {_images(split.count)} of split {split.title} {what}, more than {largest:.1%} "
        f"({setting}). {advice(split)}"
        for split, share in shares
        if share > largest
    ]
    worst = max((share for _, share in shares), default=0.0)
    return _Result(findings, f"At most {worst:.1%} of the images of a split {what}.")


def _brightness(found: list[Split], least: float, largest: float) -> _Result:
    return _within(found, examples.PIXEL_MEAN, "brightness", least, largest)


def _contrast(found: list[Split], least: float, largest: float) -> _Result:
    return _within(found, examples.CONTRAST, "contrast", least, largest)


def _within(found: list[Split], feature: str, name: str, least: float, largest: float) -> _Result:
    """Checks that the mean of a feature lies between two bounds in each split."""
    means = [(split, split.mean(feature)) for split in found]
    findings = []
    for split, mean in means:
        if not least <= mean <= largest:
            side, bound, setting = (
                ("below", least, f"gate.min_{name}") if mean < least else ("above", largest, f"gate.max_{name}")
            )
            findings.append(
                f"The mean {name} of split {split.title} is {mean:.3f}, {side} {bound:g} ({setting}). "
                "Check how the pictures were made."
            )
    figures = ", ".join(f"{mean:.2f} ({split.title})" for split, mean in means)
    return _Result(findings, f"The mean {name} is {figures}.")


def _skew(found: list[Split], largest: float) -> _Result:
    unlabelled = next((split for split in found if split.name == splits.UNLABELLED), None)
    pairs = [(split, unlabelled.statistics) for split in _labelled(found)] if unlabelled else []
    return _compared(
        pairs,
        "skew",
        largest,
        "those of split unlabelled",
        "The encoder is evaluated on other images than it is pretrained on. Take both from the same source or, if the "
        "difference is intended, set gate.skew to off.",
        "There are no labelled and unlabelled images to compare",
    )


def _drift(found: list[Split], champion: Champion | None, largest: float) -> _Result:
    if champion is None:
        return _Result([], "There is no champion to compare the images with.")
    if not champion.statistics:
        return _Result([], f"The champion {champion.name} has no statistics to compare the images with.")
    pairs = [(split, champion.statistics[split.title]) for split in found if split.title in champion.statistics]
    return _compared(
        pairs,
        "drift",
        largest,
        f"those of the champion {champion.name}",
        "Check the source of the images or, if the change is intended, set gate.drift to off for this run.",
        f"The run of the champion {champion.name} had no such splits to compare",
    )


def _compared(
    pairs: list[tuple[Split, Statistics]], kind: comparison.Kind, largest: float, other: str, advice: str, nothing: str
) -> _Result:
    """Checks that each split is like the one that it is compared with."""
    findings, seen = [], []
    for split, reference in pairs:
        differences = comparison.compare(split.statistics, reference, kind)
        seen += [(difference.divergence, difference.feature, split.title) for difference in differences]
        shown = "; ".join(
            f"mean {difference.feature} {difference.mean:.3g} instead of {difference.other_mean:.3g} (divergence "
            f"{difference.divergence:.2f})"
            for difference in differences
            if difference.divergence > largest
        )
        if shown:
            findings.append(
                f"The images of split {split.title} differ from {other}: {shown}. These Jensen-Shannon divergences are "
                f"above {largest:g} (gate.max_{kind}). {advice}"
            )
    if not pairs:
        return _Result([], f"{nothing}.")
    if not seen:
        return _Result([], f"Splits of fewer than {comparison.LEAST_IMAGES} images are not compared.")
    divergence, feature, title = max(seen)
    return _Result(findings, f"The largest divergence is {divergence:.2f}, of the {feature} of split {title}.")


def _labelled(found: Iterable[Split]) -> list[Split]:
    return [split for split in found if split.name != splits.UNLABELLED]


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"
