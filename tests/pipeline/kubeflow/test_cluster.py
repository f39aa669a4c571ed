"""The imitated cluster treats pods as Kubeflow Pipelines does. Two small steps stand for those of nnclr."""

import json
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.interpreters import Interpreter
from tests.pipeline.kubeflow import node
from tests.pipeline.kubeflow.argo import Retries
from tests.pipeline.kubeflow.cluster import Cluster, PodFailed
from tests.pipeline.kubeflow.manifest import RefusedPod, UnknownField

# What both steps start with.
_START = """
import json, os, pathlib, signal, sys, time
given = json.loads(sys.argv[1])
root = os.environ.get("NNCLR_LAUNCHER_ROOT", "/")
def path(uri): return pathlib.Path(root, uri.replace("://", "/", 1))
def uri(name): return given["outputs"]["artifacts"][name]["artifacts"][0]["uri"]
def end(**metadata):
    artifacts = {name: {"artifacts": [{"uri": uri(name), "metadata": metadata}]}
                 for name in given["outputs"]["artifacts"] if name != "executor-logs"}
    pathlib.Path(given["outputs"]["outputFile"]).write_text(json.dumps({"artifacts": artifacts}))
"""
WRITE = """
folder = path(uri("written"))
(folder / "empty").mkdir(parents=True)
(folder / "text").write_text(given["inputs"]["parameterValues"]["text"])
end(blessed=True, splits=["a"])
"""
READ = """
(artifact,) = given["inputs"]["artifacts"]["written"]["artifacts"]
print(json.dumps(artifact | {"files": [one.name for one in path(artifact["uri"]).iterdir()]}))
path(uri("read")).write_text("read")
end()
"""


def artifact(name):
    return {"artifacts": {name: {"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}}}}


def package(folder, write=WRITE, read=READ, name="toy", retries=0, write_is_cached=True, platform=None) -> Path:
    """Writes a compiled pipeline of the steps Write and Read."""
    policy = {"maxRetryCount": retries, "backoffMaxDuration": "3600s"}
    text = {"parameters": {"text": {"parameterType": "STRING"}}}
    tasks = {
        "Write": {
            "cachingOptions": {"enableCache": True} if write_is_cached else {},
            "inputs": {"parameters": {"text": {"componentInputParameter": "text"}}},
        },
        "Read": {
            "cachingOptions": {"enableCache": True},
            "dependentTasks": ["Write"],
            "inputs": {
                "artifacts": {
                    "written": {"taskOutputArtifact": {"producerTask": "Write", "outputArtifactKey": "written"}}
                }
            },
        },
    }
    for task, description in tasks.items():
        description.update(componentRef={"name": task}, taskInfo={"name": task}, retryPolicy=policy)
    executors = {
        f"{task}_executor": {
            "container": {"image": "toy:1", "command": ["python3", "-c", _START + code], "args": ["{{$}}"]}
        }
        for task, code in (("Write", write), ("Read", read))
    }
    own = {"emptyDirMounts": [{"volumeName": "scratch", "mountPath": "/tmp"}], **(platform or {})}
    spec = {
        "pipelineInfo": {"name": name},
        "schemaVersion": "2.1.0",
        "root": {
            "inputDefinitions": {"parameters": {"text": {"parameterType": "STRING", "defaultValue": "hello"}}},
            "dag": {"tasks": tasks},
        },
        "components": {
            "Write": {
                "executorLabel": "Write_executor",
                "inputDefinitions": text,
                "outputDefinitions": artifact("written"),
            },
            "Read": {
                "executorLabel": "Read_executor",
                "inputDefinitions": artifact("written"),
                "outputDefinitions": artifact("read"),
            },
        },
        "deploymentSpec": {"executors": executors},
    }
    kubernetes = {"deploymentSpec": {"executors": dict.fromkeys(executors, own)}}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump_all([spec, {"platforms": {"kubernetes": kubernetes}}]))
    return file


def mounted(kind: str, name: str, path: str) -> dict:
    parameter = {"pvcMount": "pvcNameParameter", "secretAsVolume": "secretNameParameter"}[kind]
    return {kind: [{parameter: {"runtimeValue": {"constant": name}}, "mountPath": path}]}


@pytest.fixture(scope="module")
def image() -> Interpreter:
    return Interpreter(modules=["json"])


@pytest.fixture
def confined() -> None:
    if not node.confines():
        pytest.skip("pods are not confined here: see the warnings")


def test_artifacts_are_numbered_and_only_files_are_stored(image, storage, tmp_path):
    cluster = Cluster(tmp_path / "cluster", image, storage)
    run = cluster.run(package(tmp_path), {"text": "good day"})
    assert run.ran == ["Write", "Read"]
    assert storage.read(f"{run.artifacts['Write']['written'].uri}/text") == "good day"
    seen = json.loads(run.pods[1].output)
    assert seen["name"] == run.artifacts["Write"]["written"].name
    assert int(seen["name"]) > 0
    assert seen["type"] == {"instanceSchema": ""}
    # A bucket has no empty folders, and the metadata store no booleans.
    assert seen["files"] == ["text"]
    session = json.loads(seen["metadata"].pop("store_session_info"))
    assert session["Provider"] == "minio"
    assert seen["metadata"] == {"display_name": "written", "blessed": 1.0, "splits": {"list": ["a"]}}


def test_a_pod_is_another_user_who_sees_only_the_image_and_its_volumes(image, storage, tmp_path, confined):
    look = """
    def writable(folder):
        try:
            (pathlib.Path(folder) / "new").touch()
        except OSError as error:
            return error.strerror
        return True
    folders = ["/", ".", "/usr", "/etc", sys.prefix, "/dev", "/tmp", "/dev/shm", "/.cache", "/minio", "/checkpoints"]
    print(json.dumps({
        "user": [os.getuid(), os.getgid(), os.getgroups()], "folder": os.getcwd(),
        "home": [os.environ.get("HOME"), os.path.expanduser("~")], "root": sorted(os.listdir("/")),
        "capabilities": [line for line in open("/proc/self/status") if line.startswith(("CapPrm", "NoNewPrivs"))],
        "writable": {folder: writable(folder) for folder in folders},
        "memory": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
    }))
    """
    volume = tmp_path / "volume"
    volume.mkdir()
    platform = mounted("pvcMount", "checkpoints", "/checkpoints")
    file = package(tmp_path, write=look.replace("\n    ", "\n") + WRITE, platform=platform)
    cluster = Cluster(tmp_path / "cluster", image, storage, claims={"checkpoints": volume})
    seen = json.loads(cluster.run(file, {}).pods[0].output)
    assert seen["user"] == [1000, 1000, [1000]]
    assert (seen["folder"], seen["home"]) == ("/var/lib/nnclr", [None, "/var/lib/nnclr"])
    assert not {"home", "work", "srv", "mnt"} & set(seen["root"]) - {Path(image.python).parts[1]}
    assert [line.split()[1] for line in seen["capabilities"]] == ["0000000000000000", "1"]
    assert {folder for folder, answer in seen["writable"].items() if answer is True} == {
        *("/tmp", "/dev/shm", "/.cache", "/minio")
    }
    assert seen["writable"]["/"] == "Read-only file system"
    # The volume is not read-only: it belongs to root.
    assert seen["writable"]["/checkpoints"] == "Permission denied"
    assert seen["memory"] == 64 << 20
    # With an fsGroup, Kubernetes hands it over.
    cluster.fs_group = 1000
    cluster.run(package(tmp_path, write="pathlib.Path('/checkpoints/here').touch()" + WRITE, platform=platform), {})
    assert (volume / "here").stat().st_uid == 1000
    assert stat.S_IMODE(volume.stat().st_mode) & 0o2770 == 0o2770


def test_secrets_arrive_as_files_and_variables(image, storage, tmp_path):
    variable = {
        "secretNameParameter": {"runtimeValue": {"constant": "mlflow"}},
        "keyToEnv": [{"secretKey": "password", "envVar": "PASSWORD"}],
    }
    platform = {"secretAsEnv": [variable], **mounted("secretAsVolume", "google", "/etc/google")}
    write = "print(os.environ['PASSWORD'], pathlib.Path(root, 'etc/google/key').read_text(), 'HOME' in os.environ)"
    file = package(tmp_path, write=write + WRITE, platform=platform)
    secrets = {"mlflow": {"password": "sesame"}, "google": {"key": "{}"}}
    run = Cluster(tmp_path / "cluster", image, storage, secrets).run(file, {})
    assert run.pods[0].output == "sesame {} False\n"
    with pytest.raises(RefusedPod, match="the Secret google does not exist"):
        Cluster(tmp_path / "other", image, storage, {"mlflow": {"password": "x"}}).run(file, {})
    with pytest.raises(RefusedPod, match="the claim images does not exist"):
        Cluster(tmp_path / "third", image, storage).run(
            package(tmp_path, platform=mounted("pvcMount", "images", "/images")), {}
        )
    with pytest.raises(UnknownField, match=r"Write\.platform\.enabledSharedMemory"):
        Cluster(tmp_path / "fourth", image, storage).run(package(tmp_path, platform={"enabledSharedMemory": {}}), {})


def test_a_container_always_exits_with_1_and_lines_of_others_follow_those_of_python(image, storage, tmp_path):
    write = """
print("Error: Write failed: no luck")
message = pathlib.Path("/dev/termination-log")
message.exists() and message.write_text("no luck")
sys.exit(3)
"""
    cluster = Cluster(tmp_path / "cluster", image, storage)
    with pytest.raises(PodFailed, match="failed to execute component: exit status 3"):
        cluster.run(package(tmp_path, write=write), {})
    (pod,) = cluster.runs[0].pods
    assert (pod.code, pod.python_code) == (1, 3)
    assert pod.log.splitlines()[-1] == "Error: exit status 1"
    shown = subprocess.run(["grep", "^Error:"], input=pod.log, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["Error: Write failed: no luck", "Error: exit status 1"]
    assert pod.termination_message == ("no luck" if node.confines() else "")


def test_a_process_that_is_killed_is_a_failed_container_and_a_pod_that_is_deleted_is_not(image, storage, tmp_path):
    write = """
def stop(*_):
    try:
        print("stopping", flush=True)
    except BrokenPipeError:
        os._exit(75)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""

    def disturb(pod) -> None:
        pod.wait_for_output("ready")
        pod.kill_python()

    cluster = Cluster(tmp_path / "cluster", image, storage, disturb=disturb)
    with pytest.raises(PodFailed, match="signal: killed"):
        cluster.run(package(tmp_path, write=write), {})
    (pod,) = cluster.runs[-1].pods
    assert (pod.code, pod.python_code) == (1, -signal.SIGKILL)

    def delete(pod) -> None:
        pod.wait_for_output("ready")
        pod.delete()

    cluster = Cluster(tmp_path / "deleted", image, storage, disturb=delete)
    with pytest.raises(PodFailed):
        cluster.run(package(tmp_path, write=write, retries=1), {})
    # By default, such a pod is not retried. Its output leads nowhere, once the launcher has ended.
    assert [(pod.code, pod.python_code) for pod in cluster.runs[-1].pods] == [(None, 75)]

    deaf = write.replace("os._exit(75)", "pass").replace("time.sleep(60)", "[time.sleep(1) for _ in range(60)]")
    cluster = Cluster(tmp_path / "deaf", image, storage, disturb=delete, retries=Retries.ALWAYS)
    with pytest.raises(PodFailed):
        cluster.run(package(tmp_path, write=deaf, retries=1), {})
    assert [(pod.code, pod.python_code) for pod in cluster.runs[-1].pods] == [(None, -signal.SIGKILL)] * 2


def test_what_a_command_leaves_behind_ends_with_its_pod(image, storage, tmp_path):
    write = f"""
if os.fork() == 0:
    time.sleep(60)
{WRITE}"""
    started = time.monotonic()
    assert Cluster(tmp_path / "cluster", image, storage).run(package(tmp_path, write=write), {}).ran == [
        "Write",
        "Read",
    ]
    assert time.monotonic() - started < 30


def test_tries_share_their_uris_but_not_their_logs_and_disks(image, storage, tmp_path):
    write = f"""
print(path(uri("written")).exists(), os.environ["KFP_RETRY_INDEX"], uri("written"))
if os.environ["KFP_RETRY_INDEX"] == "0":
    path(uri("written")).mkdir(parents=True)
    sys.exit(1)
{WRITE}"""
    run = Cluster(tmp_path / "cluster", image, storage).run(package(tmp_path, write=write, retries=1), {})
    first, second, _ = run.pods
    assert (first.code, second.code) == (1, 0)
    assert first.output.split()[:2] == ["False", "0"]
    assert second.output.split()[:2] == ["False", "1"]
    assert first.output.split()[2] == second.output.split()[2]
    folder = run.artifacts["Write"]["written"].uri.removesuffix("/written")
    assert storage.names(folder) == ["executor-logs-0", "executor-logs-1", "written/text"]
    assert storage.read(f"{folder}/executor-logs-0") == first.output


def test_the_cache_follows_inputs_and_not_contents(image, storage, tmp_path):
    cluster = Cluster(tmp_path / "cluster", image, storage)
    first = cluster.run(package(tmp_path), {})
    assert (first.ran, first.cached) == (["Write", "Read"], [])
    again = cluster.run(package(tmp_path), {})
    assert (again.ran, again.cached) == ([], ["Write", "Read"])
    (before, after) = (run.artifacts["Write"]["written"] for run in (first, again))
    assert (after.name, after.uri, after.metadata) == (before.name, before.uri, before.metadata)
    assert cluster.run(package(tmp_path), {"text": "other"}).ran == ["Write", "Read"]
    # Another command of the second step only.
    changed = cluster.run(package(tmp_path, read="\n" + READ), {})
    assert (changed.ran, changed.cached) == (["Read"], ["Write"])
    # The same steps in another pipeline.
    assert cluster.run(package(tmp_path, name="other"), {}).ran == ["Write", "Read"]
    # What is written anew is another artifact, although its contents are equal.
    assert cluster.run(package(tmp_path, write_is_cached=False), {}).ran == ["Write", "Read"]
    # The output of a failed run's successful task is found, too.
    with pytest.raises(PodFailed):
        cluster.run(package(tmp_path, name="failing", read="sys.exit(1)"), {})
    mended = cluster.run(package(tmp_path, name="failing"), {})
    assert (mended.ran, mended.cached) == (["Read"], ["Write"])


def test_tasks_that_need_nothing_of_each_other_run_at_the_same_time(image, storage, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    at = "/shared" if node.confines() else str(shared)
    # Each step waits for the other one.
    meet = """
place = pathlib.Path({at!r})
(place / {name!r}).touch()
deadline = time.monotonic() + 60
while len(list(place.iterdir())) < 2:
    assert time.monotonic() < deadline
    time.sleep(0.01)
"""
    file = package(
        tmp_path,
        write=meet.format(at=at, name="write") + WRITE,
        read=meet.format(at=at, name="read") + 'path(uri("read")).write_text("read")\nend()',
        platform=mounted("pvcMount", "shared", at),
    )
    spec, platform = yaml.safe_load_all(file.read_text())
    read = spec["root"]["dag"]["tasks"]["Read"]
    del read["dependentTasks"], read["inputs"], spec["components"]["Read"]["inputDefinitions"]
    file.write_text(yaml.safe_dump_all([spec, platform]))
    cluster = Cluster(tmp_path / "cluster", image, storage, claims={"shared": shared}, fs_group=1000)
    assert set(cluster.run(file, {}).ran) == {"Write", "Read"}
    # When one fails, the other still ends.
    (shared / "write").unlink()
    spec["deploymentSpec"]["executors"]["Write_executor"]["container"]["command"][2] += "\nsys.exit(1)"
    file.write_text(yaml.safe_dump_all([spec, platform]))
    with pytest.raises(PodFailed, match="Write failed"):
        cluster.run(file, {})
    assert [(pod.task, pod.code) for pod in cluster.runs[1].pods if pod.task == "Write"] == [("Write", 1)]
    assert cluster.runs[1].cached == ["Read"]
