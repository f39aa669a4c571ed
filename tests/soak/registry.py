"""A registry that is down, slow, fails, or whose answers arrive cut or changed, at each call of a push."""

import re
from pathlib import Path

from components.model_registry import SERVER_VARIABLE
from tests import faulty_storage, mlflow_server
from tests.faulty_storage import CHANGED, CUT, RESET, SLOW, UNAVAILABLE
from tests.soak.fault import Attempt, Fault, demand
from tests.soak.scene import WORKDIR, Scene, demand_sentence
from trainer.errors import DAMAGED, FAILED

# Every fault at one call, and two from there on.
_ONCE, _ONWARDS = (UNAVAILABLE, RESET, SLOW, CUT), (UNAVAILABLE, RESET)
_ARTIFACTS = "/mlflow-artifacts/artifacts/"
_IDS = re.compile(r"\?.*|\b[0-9a-f]{32}\b.*|.*/mlflow/")
# MLflow's clients then give a server up after seconds.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}


class _Registry(faulty_storage.FaultyStorage):
    """A proxy whose next fault is chosen by the number of a call.

    Attributes:
        first: The number of the first call that meets the fault, from 1.
        last: The number of the last one.
        kind: The fault, or `CHANGED` for every file that is downloaded.
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


def _push(scene: Scene, attempt: Attempt) -> str:
    """Pushes through a proxy until a push succeeds: first with changed downloads, then with faults at random calls."""
    folder, rng = attempt.folder, attempt.random
    scene.copied(folder)
    with mlflow_server.running(folder) as server, faulty_storage.in_front_of(server, "SOAK", _Registry) as proxy:
        assert isinstance(proxy, _Registry)
        proxy.plan(CHANGED, 1, 1_000_000)
        ended = _run(scene, folder, proxy)
        attempt.note("every downloaded file changed by a byte")
        demand_sentence(ended, (DAMAGED,), "models:/")
        state = _state(scene, folder, server)
        aliases = [each["aliases"] for each in state["versions"]]
        demand(aliases == [[]], f"After a verification that failed, the aliases of the versions are {aliases}.")
        calls = len(proxy.requests)
        for _ in range(3):
            once = rng.random() < 0.5
            first = rng.randint(1, calls)
            proxy.plan(rng.choice(_ONCE if once else _ONWARDS), first, first if once else 1_000_000)
            ended = _run(scene, folder, proxy)
            if not proxy.place:
                break
            attempt.note(f"{proxy.kind} {'at' if once else 'from'} {proxy.place}{'' if once else ' on'}")
            if ended.code == 0:
                break
            demand_sentence(ended, (FAILED,), SERVER_VARIABLE)
            whole = not _state(scene, folder, server)["damage"]
            demand(whole, f"After {proxy.kind} at {proxy.place}, a version is damaged.")
        proxy.plan("", 0, 0)
        ended = _run(scene, folder, proxy)
        demand(ended.code == 0, f"With a registry that answers: exit code {ended.code}: {ended.sentence}")
        state = _state(scene, folder, server)
        for name in ("versions", "damage", "releases"):
            demand(state[name] == scene.state[name], f"{name}: {state[name]} instead of {scene.state[name]}.")
    return "one sentence, or tried again; in the end one whole version"


def _run(scene: Scene, folder: Path, proxy: _Registry):
    return scene.nnclr(folder, scene.run_arguments(), **{SERVER_VARIABLE: proxy.url}, **_IMPATIENT)


def _state(scene: Scene, folder: Path, server: str) -> dict:
    return scene.inspect(folder / WORKDIR, **{SERVER_VARIABLE: server})


FAULTS = [Fault("registry", 150, _push)]
