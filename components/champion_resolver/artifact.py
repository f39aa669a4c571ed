"""The artifact `model` of ChampionResolver: the champion's SavedModel in TFX's layout, and `champion.json`.

If the champion was registered with the statistics of its images, the artifact also holds them.
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
    """The registered version that the alias points to.

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


class _Resolved(Content):
    champion: Champion | None = None


def identity(version: "Version | None") -> str:
    """Returns a short text that changes when the champion does, for the cache."""
    return f"{version.name}:{version.version}:{version.sha256[:12]}" if version else _NONE


def write(directory: str, champion: Champion | None) -> None:
    """Writes `champion.json`."""
    artifact_files.write_json(f"{directory}/{_CHAMPION}", _Resolved(champion=champion))


def read(directory: str) -> Champion | None:
    """Returns the champion in the artifact; None if the registry has none."""
    return artifact_files.read_json(f"{directory}/{_CHAMPION}", _Resolved).champion


def write_statistics(directory: str, statistics: bytes) -> None:
    """Writes the serialised statistics of the champion's images, see `components.data_gate.statistics.kept`."""
    artifact_files.write(f"{directory}/{_STATISTICS}", statistics)


def read_statistics(directory: str) -> bytes | None:
    """Returns the serialised statistics of the champion's images; None if it was registered without."""
    path = f"{directory}/{_STATISTICS}"
    return artifact_files.read(path) if artifact_files.exists(path) else None
