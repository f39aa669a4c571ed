"""TFDV's statistics of a split, and the figures that DataGate judges."""

from collections.abc import Iterable
from dataclasses import dataclass

from tensorflow_metadata.proto.v0 import statistics_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatistics as Statistics

from trainer import examples

# A released version keeps no hashes of single images.
_NOT_KEPT = (examples.EXACT_HASH, examples.LOOK_HASH, examples.FOLD)


@dataclass(frozen=True)
class Split:
    """The statistics of a split that has images.

    Attributes:
        name: Name of the split.
        statistics: TFDV's statistics.
        class_names: Names of the classes, in the order of the labels.
        separate: Whether the split belongs to the separate labelled set, `evaluator.data`.
    """

    name: str
    statistics: Statistics
    class_names: tuple[str, ...] = ()
    separate: bool = False

    @property
    def title(self) -> str:
        """Name of the split in sentences and in the statistics of a released version."""
        return f"{self.name} of evaluator.data" if self.separate else self.name

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.statistics.num_examples)

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of images by class; classes without images are included."""
        counts = dict.fromkeys(self.class_names, 0)
        for bucket in _feature(self.statistics, examples.LABEL).string_stats.rank_histogram.buckets:
            label = int(bucket.label)
            name = self.class_names[label] if 0 <= label < len(self.class_names) else bucket.label
            counts[name] = int(bucket.sample_count)
        return counts

    def mean(self, feature: str) -> float:
        """Returns the mean of a numeric feature."""
        return mean(self.statistics, feature)

    def share_below(self, feature: str, bound: float) -> float:
        """Returns the share of the images whose value of a numeric feature is below a bound.

        TFDV's histogram of quantiles gives the share to about one twentieth.
        """
        below = 0.0
        for bucket in _quantiles(_feature(self.statistics, feature)):
            if bucket.high_value < bound:
                below += bucket.sample_count
            elif bucket.low_value < bound:
                below += bucket.sample_count * (bound - bucket.low_value) / (bucket.high_value - bucket.low_value)
        return below / self.count

    def share_of_zeros(self, feature: str) -> float:
        """Returns the share of the images whose value of a numeric feature is 0."""
        return _feature(self.statistics, feature).num_stats.num_zeros / self.count

    def share_of_repeats(self, feature: str) -> float:
        """Returns the share of the images that could be left out without losing a value of a categorical feature."""
        stats = _feature(self.statistics, feature).string_stats
        return (stats.common_stats.tot_num_values - stats.unique) / self.count

    def most_frequent(self, feature: str) -> int:
        """Returns how many images have the most frequent value of a categorical feature."""
        return int(max(value.frequency for value in _feature(self.statistics, feature).string_stats.top_values))


def mean(statistics: Statistics, feature: str) -> float:
    """Returns the mean of a numeric feature."""
    return _feature(statistics, feature).num_stats.mean


def features(statistics: Statistics) -> set[str]:
    """Returns the names of the features that have values."""
    return {_name(feature) for feature in statistics.features}


def kept(splits: Iterable[Split]) -> bytes:
    """Returns what a released version keeps: a serialised list with the statistics of each split by its title."""
    result = statistics_pb2.DatasetFeatureStatisticsList()
    for split in splits:
        dataset = result.datasets.add(name=split.title, num_examples=split.statistics.num_examples)
        dataset.features.extend(one for one in split.statistics.features if _name(one) not in _NOT_KEPT)
    return result.SerializeToString(deterministic=True)


def read_kept(content: bytes) -> dict[str, Statistics]:
    """Reads what `kept` returned: the statistics by the title of the split."""
    found = statistics_pb2.DatasetFeatureStatisticsList.FromString(content)
    return {dataset.name: dataset for dataset in found.datasets}


def _name(feature: statistics_pb2.FeatureNameStatistics) -> str:
    return feature.name or feature.path.step[0]


def _feature(statistics: Statistics, name: str) -> statistics_pb2.FeatureNameStatistics:
    return next(feature for feature in statistics.features if _name(feature) == name)


def _quantiles(feature: statistics_pb2.FeatureNameStatistics) -> Iterable[statistics_pb2.Histogram.Bucket]:
    for histogram in feature.num_stats.histograms:
        if histogram.type == statistics_pb2.Histogram.QUANTILES:
            return histogram.buckets
    return ()
