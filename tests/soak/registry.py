"""A registry that is down, slow, fails, or whose answers arrive cut or changed, at each call of a push."""

from pathlib import Path

from components.model_registry import SERVER_VARIABLE
from tests import faulty_storage, mlflow_server
from tests.faulty_storage import CHANGED
from tests.soak.fault import Attempt, Fault, demand
from tests.soak.planned_faults import ONCE, ONWARDS, PlannedFaults
from tests.soak.scene import WORKDIR, Scene, demand_sentence
from trainer.errors import DAMAGED, FAILED

# MLflow's clients then give a server up after seconds.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}


def _push(scene: Scene, attempt: Attempt) -> str:
    """Pushes through a proxy until a push succeeds: first with changed downloads, then with faults at random calls."""
    folder, rng = attempt.folder, attempt.random
    scene.copied(folder)
    with mlflow_server.running(folder) as server, faulty_storage.in_front_of(server, "SOAK", PlannedFaults) as proxy:
        assert isinstance(proxy, PlannedFaults)
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
            proxy.plan(rng.choice(ONCE if once else ONWARDS), first, first if once else 1_000_000)
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


def _run(scene: Scene, folder: Path, proxy: PlannedFaults):
    return scene.nnclr(folder, scene.run_arguments(), **{SERVER_VARIABLE: proxy.url}, **_IMPATIENT)


def _state(scene: Scene, folder: Path, server: str) -> dict:
    return scene.inspect(folder / WORKDIR, **{SERVER_VARIABLE: server})


FAULTS = [Fault("registry", 150, _push)]
