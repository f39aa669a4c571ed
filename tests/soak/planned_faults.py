"""A proxy in front of a server, whose next fault is chosen by the number of a call."""

import re

from tests.faulty_storage import CHANGED, CUT, RESET, SLOW, UNAVAILABLE, FaultyStorage

#: Faults for one call, and those for all calls from one on.
ONCE, ONWARDS = (UNAVAILABLE, RESET, SLOW, CUT), (UNAVAILABLE, RESET)
_ARTIFACTS = "/mlflow-artifacts/artifacts/"
_IDS = re.compile(r"\?.*|\b[0-9a-f]{32}\b.*|.*/mlflow/")


class PlannedFaults(FaultyStorage):
    """The proxy.

    Attributes:
        first: The number of the first call that meets the fault, from 1.
        last: The number of the last one.
        kind: The fault, or `CHANGED` for every artifact that is downloaded from MLflow.
        place: The call that met the fault first; empty if none did.
    """

    def __init__(self, upstream: str):
        super().__init__(upstream)
        self.first = self.last = 0
        self.kind, self.place = "", ""

    def plan(self, kind: str, first: int, last: int) -> None:
        """Chooses the next fault, and counts calls from 1 again."""
        self.requests.clear()
        self.kind, self.first, self.last, self.place = kind, first, last, ""

    def fault(self, method: str, path: str) -> str | None:
        if not self.first <= len(self.requests) <= self.last:
            return None
        if self.kind == CHANGED and not (method == "GET" and _ARTIFACTS in path):
            return None
        self.place = self.place or f"{method} {'artifacts' if _ARTIFACTS in path else _IDS.sub('', path)}"
        return self.kind
