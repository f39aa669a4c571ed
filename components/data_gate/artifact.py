"""The artifact `data_checks` of DataGate: `checks.json`, and `statistics.pb` for the checks of later runs.

The module needs neither TFX nor TFDV.
"""

from components import artifact_files
from components.artifact_files import Content
from trainer.errors import DataError

#: Key of the output channel.
DATA_CHECKS = "data_checks"

_CHECKS, _STATISTICS = "checks.json", "statistics.pb"


class RefusedData(DataError):
    """The images failed the validation.

    Args:
        message: The message.
        findings: A sentence for everything that the checks found, including what they only warn of.
    """

    def __init__(self, message: str, findings: tuple[str, ...]):
        super().__init__(message)
        self.findings = findings


class DataCheck(Content):
    """The verdict of one check on the images.

    Attributes:
        name: Name of the check, which is that of its setting in the section `gate`.
        passed: Whether every split meets the bound.
        sentences: A sentence for each split that misses the bound; if all meet it, one sentence with the figures.
    """

    name: str
    passed: bool
    sentences: tuple[str, ...]


class _Checks(Content):
    checks: tuple[DataCheck, ...]


def write(directory: str, checks: tuple[DataCheck, ...], statistics: bytes) -> None:
    """Writes the artifact; `checks.json`, which completes it, comes last.

    Args:
        directory: Path or URI of the artifact.
        checks: The verdicts of all checks that are switched on.
        statistics: A serialised `DatasetFeatureStatisticsList`, see `statistics.kept`.
    """
    artifact_files.write(f"{directory}/{_STATISTICS}", statistics)
    artifact_files.write_json(f"{directory}/{_CHECKS}", _Checks(checks=checks))


def read_checks(directory: str) -> tuple[DataCheck, ...]:
    """Reads the verdicts."""
    return artifact_files.read_json(f"{directory}/{_CHECKS}", _Checks).checks


def read_statistics(directory: str) -> bytes:
    """Reads the serialised statistics of all splits."""
    return artifact_files.read(f"{directory}/{_STATISTICS}")
