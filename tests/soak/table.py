"""The table of a soak, which is written anew after each attempt."""

from dataclasses import dataclass
from pathlib import Path

from tests.soak.fault import Attempt


@dataclass
class Row:
    """What is known of one way in which a fault was injected.

    Attributes:
        fault: The name of the fault.
        how: The description of the injection.
        times: How often the fault was injected in this way.
        outcome: What came of it.
        findings: What was wrong, in sentences; the attempt's other injections may be to blame.
    """

    fault: str
    how: str
    times: int
    outcome: str
    findings: list[str]


class Table:
    """The rows so far, in the order of the first attempts.

    Args:
        path: The file that holds the table in Markdown.
        title: The first line of the file.
    """

    def __init__(self, path: Path, title: str):
        self._path, self._title = path, title
        self._rows: dict[tuple[str, str], Row] = {}
        self._notes: list[str] = []

    def add(self, fault: str, attempt: Attempt, outcome: str, finding: str | None) -> None:
        """Adds an attempt, and writes the file.

        Args:
            fault: The name of the fault.
            attempt: The attempt.
            outcome: What came of it.
            finding: What was wrong; None if nothing was.
        """
        for how, times in (attempt.tried or {"not injected": 0}).items():
            row = self._rows.setdefault((fault, how), Row(fault, how, 0, outcome, []))
            row.times += times
            row.outcome = outcome
            if finding:
                row.findings.append(finding)
        self._write()

    def note(self, sentence: str) -> None:
        """Adds a sentence below the table, and writes the file."""
        self._notes.append(sentence)
        self._write()

    def __str__(self) -> str:
        lines = ["| fault | what was done | times | outcome | lost |", "|---|---|---|---|---|"]
        for row in self._rows.values():
            lost = " ".join(dict.fromkeys(row.findings)) or "nothing"
            lines.append("| " + " | ".join((row.fault, row.how, str(row.times), row.outcome, _cell(lost))) + " |")
        return "\n".join(lines)

    def _write(self) -> None:
        self._path.write_text("\n\n".join([self._title, str(self), *self._notes]) + "\n", encoding="utf-8")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
