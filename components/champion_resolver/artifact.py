"""The artifact `model` of ChampionResolver: the champion's SavedModel in TFX's layout, and `champion.json`.

If an earlier release was more accurate, the artifact also holds that encoder, in TFX's layout below `best_release`. If
the champion was registered with the statistics of its images, the artifact also holds them.
"""

from typing import TYPE_CHECKING

from components import artifact_files
from components.artifact_files import Content

if TYPE_CHECKING:
    from components.model_registry import Version

#: Key of the output channel.
MODEL = "model"

_CHAMPION, _STATISTICS = "champion.json", "data_statistics.pb"
# Identity of the champion of a registry that has none.
_NONE = "none"


class Champion(Content):
    """A registered version that a candidate is compared with: the one that the alias points to, or an earlier one.

    Attributes:
        name: Name of the registered model.
        version: Number of the version.
        problem: Why its files cannot be used; None if they can.
    """

    name: str
    version: int
    problem: str | None = None

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


class Resolved(Content):
    """What the registry had when the run started.

    Attributes:
        champion: The version that the alias points to; None if the registry has none.
        best_release: The earlier release with the highest recorded accuracy, if that is higher than the champion's.
    """

    champion: Champion | None = None
    best_release: Champion | None = None


def identity(champion: "Version | None", best_release: "Version | None") -> str:
    """Returns a short text that changes when the champion or the best release does, for the cache."""
    texts = [
        f"{version.name}:{version.version}:{version.sha256[:12]}" for version in (champion, best_release) if version
    ]
    return " ".join(texts) or _NONE


def write(directory: str, resolved: Resolved) -> None:
    """Writes `champion.json`."""
    artifact_files.write_json(f"{directory}/{_CHAMPION}", resolved)


def read(directory: str) -> Resolved:
    """Reads `champion.json`."""
    return artifact_files.read_json(f"{directory}/{_CHAMPION}", Resolved)


def best_release_directory(directory: str) -> str:
    """Returns the folder of the best release, which is laid out like TFX's artifact of a model."""
    return f"{directory}/best_release"


def write_statistics(directory: str, statistics: bytes) -> None:
    """Writes the serialised statistics of the champion's images, see `components.data_gate.statistics.kept`."""
    artifact_files.write(statistics_path(directory), statistics)


def statistics_path(directory: str) -> str:
    """Returns the path of the serialised statistics of the champion's images."""
    return f"{directory}/{_STATISTICS}"


def read_statistics(directory: str) -> bytes | None:
    """Returns the serialised statistics of the champion's images; None if it was registered without."""
    path = statistics_path(directory)
    return artifact_files.read(path) if artifact_files.exists(path) else None
