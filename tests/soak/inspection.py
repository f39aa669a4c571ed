"""What lies in a working directory and its registry, as JSON: `inspect WORKDIR` in a process of its own."""

import hashlib
import json
import re
from pathlib import Path

from components.model_registry import ModelRegistry, tags
from components.model_registry.paging import all_pages
from components.registry_pusher import push

# Ids that differ between equal registries.
_IDS = re.compile(r"\b(m-)?[0-9a-f]{32}\b")


def print_state(workdir: str, model: str) -> None:
    """Prints the versions of a model, what is damaged in them, all stored files, and the digest of the records."""
    root = Path(workdir)
    registry = ModelRegistry(str(root / "registry"))
    versions = registry.versions(model) if model in registry.names() else []
    client = registry.connection.client
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = list(all_pages(client.search_runs, experiment_ids=experiments))
    stored = (root / "registry" / "artifacts").glob("*/*/artifacts/model/**/*")
    state = {
        "versions": [
            {"version": each.version, "aliases": list(each.aliases), "release": each.release} for each in versions
        ],
        "damage": [clause for each in versions for clause in push.differences(registry, each)],
        "releases": sum(tags.RELEASE in run.data.tags for run in runs),
        "running": sum(run.info.status == "RUNNING" for run in runs),
        "stored": sorted(_IDS.sub("ID", str(path.relative_to(root))) for path in stored if path.is_file()),
        "records": _records(root),
        "partial": sorted(str(path.relative_to(root)) for path in root.rglob(".*.partial")),
    }
    print(json.dumps(state))


def _records(root: Path) -> str:
    """Returns the digest of the records of the newest examples."""
    folders = [path for path in root.glob("artifacts/ImageExampleGen/examples/*") if path.name.isdigit()]
    newest = max(folders, key=lambda path: int(path.name), default=None)
    digest = hashlib.sha256()
    for file in sorted(newest.glob("Split-*/*")) if newest else []:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def print_unnoticed(workdir: str, model: str) -> None:
    """Removes each stored file of a version, and changes a byte of it; prints which of this is not noticed."""
    registry = ModelRegistry(f"{workdir}/registry")
    (version,) = registry.versions(model)
    (folder,) = (Path(workdir) / "registry" / "artifacts" / model).glob("*/artifacts/model")
    files = [path for path in folder.rglob("*") if path.is_file()]
    unnoticed = []
    for path in files:
        whole, name = path.read_bytes(), path.relative_to(folder).as_posix()
        middle = len(whole) // 2
        changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :] if whole else b"x"
        for how, content in (("missing", None), ("changed", changed)):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            if not any(name in clause for clause in push.differences(registry, version)):
                unnoticed.append(f"{name} {how}")
            path.write_bytes(whole)
    print(json.dumps({"files": len(files), "unnoticed": unnoticed}))
