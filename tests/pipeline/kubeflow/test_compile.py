"""The compiled pipeline: what a cluster gets to read."""

import difflib
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from kfp import components
from pydantic import ValidationError

from components.registry_pusher.provenance import CodeVersion
from pipeline import config, provenance
from pipeline.config.kubeflow import NOTIFIER, STEPS, KubeflowSettings
from pipeline.kubeflow import compile as kubeflow
from pipeline.kubeflow.parameters import run_parameters
from trainer.config import TrainerSettings
from trainer.errors import SettingsError

GOLDEN = Path(__file__).with_name("golden.yaml")
EVERYTHING = [
    *("data.source=gs://bucket/images", "kubeflow.image=registry.test/nnclr:1"),
    *("kubeflow.pipeline_root=gs://bucket/runs", "kubeflow.checkpoints=/checkpoints"),
    *("kubeflow.trainer_volume=nnclr-checkpoints", "kubeflow.steps.Trainer.gpus=2"),
    "kubeflow.steps.Trainer.node_selector={pool: gpu}",
    "kubeflow.steps.Trainer.tolerations=[{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]",
    "kubeflow.environment={MLFLOW_TRACKING_URI: 'http://mlflow.mlflow:5000'}",
    "kubeflow.secrets={mlflow: {password: MLFLOW_TRACKING_PASSWORD}}",
]
CODE = CodeVersion(nnclr_version="1", git_commit="c0ffee", lock_sha256="10c4")
TASKS = {
    *("ChampionResolver", "DataGate", "DataResolver", "ExampleValidator", "ImageExampleGen", "LinearProbeEvaluator"),
    *("RegistryPusher", "SchemaImporter", "StatisticsGen", "Trainer"),
}


@pytest.fixture(scope="module")
def compiled():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "code_version", lambda: CODE)
        yield kubeflow.compile_pipeline(config.load("sample", overrides=EVERYTHING))


def tasks(spec):
    """All tasks that start a pod."""
    outer, inner = (dag["dag"]["tasks"] for dag in (spec["root"], spec["components"]["TrainAndRelease"]))
    return {"DataResolver": outer["DataResolver"], **inner}


def pods(platform):
    """The settings of each task's pod, which only Kubernetes has."""
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {name.removesuffix("_executor"): pod for name, pod in executors.items()}


def container(spec, task):
    return spec["deploymentSpec"]["executors"][f"{task}_executor"]["container"]


def test_it_is_what_it_was(compiled):
    """After a wanted change: python -m tests.pipeline.kubeflow.test_compile writes the golden file anew."""
    was, found = GOLDEN.read_text().splitlines(), kubeflow.to_yaml(*compiled).splitlines()
    diff = list(difflib.unified_diff(was, found, "golden.yaml", "now", lineterm=""))
    assert not diff, "\n".join(diff)


def test_kfp_loads_it(compiled, tmp_path):
    kubeflow.write(*compiled, tmp_path / "pipeline.yaml")
    loaded = components.load_component_from_file(str(tmp_path / "pipeline.yaml"))
    assert loaded.pipeline_spec.schema_version == "2.1.0"
    assert loaded.pipeline_spec.pipeline_info.name == "nnclr-sample"
    assert set(loaded.pipeline_spec.root.dag.tasks) == {"DataResolver", "TrainAndRelease"}
    assert set(loaded.pipeline_spec.components) == TASKS | {"TrainAndRelease"}
    assert loaded.platform_spec.platforms["kubernetes"].deployment_spec.executors.keys() == {
        f"{task}_executor" for task in TASKS
    }
    # Nothing must be given for a run.
    parameters = loaded.pipeline_spec.root.input_definitions.parameters
    assert all(parameter.HasField("default_value") for parameter in parameters.values())
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.yaml"]


def test_argo_takes_every_task_name(compiled):
    for name in compiled[0]["components"]:
        assert re.fullmatch(r"[a-zA-Z0-9][-a-zA-Z0-9]*", name)


def test_pushes_champions_and_what_looks_at_the_data_are_never_cached(compiled):
    settings = config.load("sample", overrides=[*EVERYTHING, "evaluator.data=gs://bucket/labelled"])
    spec, _ = kubeflow.compile_pipeline(settings)
    of_labelled_set = {"LabelledExampleGen", "LabelledExampleValidator", "LabelledStatisticsGen"}
    for found, labelled in ((compiled[0], set()), (spec, of_labelled_set)):
        cached = {name for name, task in tasks(found).items() if task["cachingOptions"].get("enableCache")}
        assert cached == TASKS - {"DataResolver", "RegistryPusher"} | labelled


def test_the_gate_judges_the_separate_labelled_set_too():
    settings = config.load("sample", overrides=[*EVERYTHING, "evaluator.data=gs://bucket/labelled"])
    spec, _ = kubeflow.compile_pipeline(settings)
    inputs = tasks(spec)["DataGate"]["inputs"]["artifacts"]
    producers = {name: given["taskOutputArtifact"]["producerTask"] for name, given in inputs.items()}
    assert producers == {
        **{"examples": "ImageExampleGen", "statistics": "StatisticsGen", "anomalies": "ExampleValidator"},
        **{"labelled_examples": "LabelledExampleGen", "labelled_statistics": "LabelledStatisticsGen"},
        **{"labelled_anomalies": "LabelledExampleValidator", "champion": "ChampionResolver"},
    }
    assert "DataGate" in tasks(spec)["Trainer"]["dependentTasks"]


def test_cached_steps_get_what_their_results_depend_on_from_the_resolver(compiled):
    """Their cache follows the images and the champion."""
    settings = config.load("sample", overrides=[*EVERYTHING, "evaluator.data=gs://bucket/labelled"])
    spec, _ = kubeflow.compile_pipeline(settings)
    sub_dag = spec["root"]["dag"]["tasks"]["TrainAndRelease"]
    produced = spec["components"]["DataResolver"]["outputDefinitions"]["parameters"]

    def origin(task, name):
        inner = tasks(spec)[task]["inputs"]["parameters"][name]["componentInputParameter"]
        assert inner in spec["components"]["TrainAndRelease"]["inputDefinitions"]["parameters"]
        output = sub_dag["inputs"]["parameters"][inner]["taskOutputParameter"]
        assert output["producerTask"] == "DataResolver"
        assert output["outputParameterKey"] in produced
        return output["outputParameterKey"]

    assert origin("ImageExampleGen", "source") == "resolved_source"
    assert origin("ImageExampleGen", "fingerprint") == "resolved_fingerprint"
    assert origin("LabelledExampleGen", "fingerprint") == "labelled_fingerprint"
    assert origin("RegistryPusher", "settings_fingerprint") == "settings_fingerprint"
    # The cached champion is the one that the registry has at the start of the run.
    assert origin("ChampionResolver", "expected") == "resolved_champion"


def test_nothing_follows_where_nothing_is_new(compiled):
    outer = compiled[0]["root"]["dag"]["tasks"]
    news = "pipelinechannel--DataResolver-news"
    assert outer["TrainAndRelease"]["triggerPolicy"] == {"condition": f"inputs.parameter_values['{news}'] == 'new'"}
    assert outer["TrainAndRelease"]["inputs"]["parameters"][news] == {
        "taskOutputParameter": {"producerTask": "DataResolver", "outputParameterKey": "news"}
    }
    for task in tasks(compiled[0]).values():
        assert "DataResolver" not in task.get("dependentTasks", [])


def test_the_end_of_a_run_is_told_by_an_exit_task_that_knows_no_address(compiled):
    receiver = ["notify=[{on: [failed], url_from: CHAT}]"]
    with pytest.raises(
        SettingsError, match=r"notify\.0\.url_from .* CHAT, which the steps do not have: name the Secret"
    ):
        kubeflow.compile_pipeline(config.load("sample", overrides=[*EVERYTHING, *receiver]))
    secret = ["kubeflow.secrets={chat: {url: CHAT}}", "kubeflow.steps.Notifier.node_selector={pool: cheap}"]
    spec, platform = kubeflow.compile_pipeline(config.load("sample", overrides=[*EVERYTHING, *receiver, *secret]))
    everything, notifier = (spec["root"]["dag"]["tasks"][name] for name in ("Run", NOTIFIER))
    assert (notifier["dependentTasks"], notifier["cachingOptions"]) == (["Run"], {})
    assert notifier["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert "retryPolicy" not in notifier
    # Everything else is as it is without the exit task, one DAG further down.
    assert spec["components"]["Run"]["dag"] == compiled[0]["root"]["dag"]
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert everything["inputs"]["parameters"] == {name: {"componentInputParameter": name} for name in parameters}
    pod = pods(platform)[NOTIFIER]
    assert pod["nodeSelector"] == {"labels": {"pool": "cheap"}}
    assert {key["envVar"] for secret in pod["secretAsEnv"] for key in secret["keyToEnv"]} >= {"CHAT"}


def test_only_the_trainer_sees_gpus_and_goes_to_their_nodes(compiled):
    spec, platform = compiled
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for task in TASKS:
        environment = {variable["name"]: variable["value"] for variable in container(spec, task)["env"]}
        accelerator = container(spec, task)["resources"].get("accelerator")
        scheduling = executors[f"{task}_executor"].keys() & {"nodeSelector", "tolerations", "pvcMount"}
        if task == "Trainer":
            assert accelerator == {"resourceType": "nvidia.com/gpu", "resourceCount": "2"}
            assert "CUDA_VISIBLE_DEVICES" not in environment
            assert scheduling == {"nodeSelector", "tolerations", "pvcMount"}
        else:
            assert accelerator is None
            assert environment["CUDA_VISIBLE_DEVICES"] == "-1"
            assert not scheduling
        assert environment["MLFLOW_TRACKING_URI"] == "http://mlflow.mlflow:5000"
        scratch, memory = executors[f"{task}_executor"]["emptyDirMounts"]
        assert (scratch["mountPath"], scratch["sizeLimit"], "medium" in scratch) == ("/tmp", "20Gi", False)
        assert (memory["mountPath"], memory["sizeLimit"], memory["medium"]) == ("/dev/shm", "1Gi", "Memory")


def test_steps_can_be_given_what_only_they_need():
    options = [
        *("kubeflow.resources={cpu: 3, memory: 9Gi}", "evaluator.data=gs://bucket/labelled"),
        *("kubeflow.steps.ImageExampleGen={cpu: 500m, timeout_seconds: 7200}", "kubeflow.steps.Trainer.memory=64Gi"),
        "kubeflow.steps.LinearProbeEvaluator={memory: 32Gi, node_selector: {pool: cheap}, tolerations: [{key: spot}]}",
        "kubeflow.steps.LabelledExampleGen.timeout_seconds=60",
    ]
    spec, platform = kubeflow.compile_pipeline(config.load("sample", overrides=[*EVERYTHING, *options]))
    resources = {task: container(spec, task)["resources"] for task in tasks(spec)}
    changed = {
        "ImageExampleGen": ("500m", "9Gi"),
        "LinearProbeEvaluator": ("3", "32Gi"),
        "Trainer": ("4", "64Gi"),
    }
    for task in tasks(spec):
        cpu, memory = changed.get(task, ("3", "9Gi"))
        assert resources[task]["resourceCpuRequest"] == cpu
        assert resources[task]["resourceMemoryRequest"] == resources[task]["resourceMemoryLimit"] == memory
        # 64-bit integers are texts in protobuf's JSON.
        limit = {"ImageExampleGen": "7200", "LabelledExampleGen": "60"}.get(task)
        assert pods(platform)[task].get("activeDeadlineSeconds") == limit
    evaluator, trainer = pods(platform)["LinearProbeEvaluator"], pods(platform)["Trainer"]
    assert evaluator["nodeSelector"] == {"labels": {"pool": "cheap"}}
    assert evaluator["tolerations"] == [{"key": "spot", "operator": "Equal"}]
    assert trainer["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert "nodeSelector" not in pods(platform)["ImageExampleGen"]


def test_a_step_with_a_gpu_can_use_it():
    settings = config.load("sample", overrides=[*EVERYTHING, "kubeflow.steps.LinearProbeEvaluator.gpus=1"])
    spec, _ = kubeflow.compile_pipeline(settings)
    found = {}
    for task in tasks(spec):
        accelerator = container(spec, task)["resources"].get("accelerator")
        hidden = {"name": "CUDA_VISIBLE_DEVICES", "value": "-1"} in container(spec, task)["env"]
        found[task] = (accelerator, hidden)
    assert found.pop("Trainer") == ({"resourceType": "nvidia.com/gpu", "resourceCount": "2"}, False)
    assert found.pop("LinearProbeEvaluator") == ({"resourceType": "nvidia.com/gpu", "resourceCount": "1"}, False)
    assert set(found.values()) == {(None, True)}


def test_labels_and_annotations_reach_every_pod(compiled, tmp_path):
    labels = {"team": "vision", "example.com/cost-centre": "A_1.x", "empty": ""}
    options = [f"kubeflow.pod_labels={json.dumps(labels)}", "kubeflow.pod_annotations={note: 'Who? Ask Ada!'}"]
    spec, platform = kubeflow.compile_pipeline(config.load("sample", overrides=[*EVERYTHING, *options]))
    assert pods(platform).keys() == tasks(spec).keys()
    for pod in pods(platform).values():
        assert pod["podMetadata"] == {"labels": labels, "annotations": {"note": "Who? Ask Ada!"}}
    kubeflow.write(spec, platform, tmp_path / "pipeline.yaml")
    loaded = components.load_component_from_file(str(tmp_path / "pipeline.yaml"))
    executors = loaded.platform_spec.platforms["kubernetes"].deployment_spec.executors
    assert dict(executors["Trainer_executor"]["podMetadata"]["labels"]) == labels
    # Without any, the backend uses its usual templates.
    assert not any("podMetadata" in pod for pod in pods(compiled[1]).values())


def test_the_steps_of_the_settings_are_those_of_the_pipeline():
    settings = config.load("sample", overrides=[*EVERYTHING, "evaluator.data=gs://bucket/labelled"])
    spec, _ = kubeflow.compile_pipeline(settings)
    assert sorted([*tasks(spec), NOTIFIER]) == list(STEPS)


def test_a_trainer_with_gpus_refuses_to_train_on_a_cpu(compiled):
    def devices(spec):
        custom = tasks(spec)["Trainer"]["inputs"]["parameters"]["custom_config"]["runtimeValue"]["constant"]
        return json.loads(json.loads(custom)["settings"])["devices"]

    without, _ = kubeflow.compile_pipeline(
        config.load("sample", overrides=[*EVERYTHING, "kubeflow.steps.Trainer.gpus=0"])
    )
    on_cpu = [*EVERYTHING, "trainer.devices=cpu"]
    chosen, _ = kubeflow.compile_pipeline(config.load("sample", overrides=on_cpu))
    assert (devices(compiled[0]), devices(without), devices(chosen)) == ("gpu", "auto", "cpu")


def test_retries_have_no_deadline_that_a_training_could_reach(compiled):
    """Argo ends all attempts this long after the start of the first; an absent value counts as 0."""
    for name, task in tasks(compiled[0]).items():
        # It would refuse the same data again.
        if name == "DataGate":
            assert "retryPolicy" not in task
            continue
        policy = task["retryPolicy"]
        assert policy["maxRetryCount"] == 2
        assert int(policy["backoffMaxDuration"].removesuffix("s")) == 30 * 24 * 3600


def test_a_step_may_be_retried_more_or_less_often_than_others():
    options = ["kubeflow.retries=1", "kubeflow.steps={Trainer: {retries: 5}, ImageExampleGen: {retries: 0}}"]
    spec, _ = kubeflow.compile_pipeline(config.load("sample", overrides=[*EVERYTHING, *options]))
    counts = {name: task.get("retryPolicy", {}).get("maxRetryCount", 0) for name, task in tasks(spec).items()}
    assert counts == dict.fromkeys(TASKS, 1) | {"Trainer": 5, "ImageExampleGen": 0, "DataGate": 0}


def test_volumes_secret_files_and_the_pull_of_the_image_reach_every_step():
    options = [
        *("kubeflow.volumes={images: /images}", "kubeflow.secret_files={storage-key: /etc/storage}"),
        *("kubeflow.image_pull_policy=IfNotPresent", "kubeflow.image_pull_secrets=[registry]"),
    ]
    settings = config.load("sample", overrides=[*EVERYTHING, *options, "data.source=/images/stl10"])
    spec, platform = kubeflow.compile_pipeline(settings)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for task in tasks(spec):
        pod = executors[f"{task}_executor"]
        claims = {claim["constant"]: claim["mountPath"] for claim in pod["pvcMount"]}
        assert claims == {"images": "/images"} | ({"nnclr-checkpoints": "/checkpoints"} if task == "Trainer" else {})
        (secret,) = pod["secretAsVolume"]
        assert (secret["secretName"], secret["mountPath"]) == ("storage-key", "/etc/storage")
        assert pod["imagePullPolicy"] == "IfNotPresent"
        assert [one["secretName"] for one in pod["imagePullSecret"]] == ["registry"]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["data.source=minio://bucket/images"], "data.source is minio://bucket/images"),
        (["data.source=images"], "data.source is images"),
        (["data.source=/images/../x", "kubeflow.volumes={images: /images}"], r"data.source is /images/\.\./x"),
        (["data.source=/imagesque/x", "kubeflow.volumes={images: /images}"], "data.source is /imagesque/x"),
        (["evaluator.data=/elsewhere/labelled"], "evaluator.data is /elsewhere/labelled"),
        (
            ["trainer.encoder={name: /elsewhere/start.keras, width: null, batch_norm: false}"],
            "trainer.encoder is /elsewhere/start.keras",
        ),
        (
            ["evaluator.references.pretrained=[{network: /elsewhere/encoder}]"],
            "evaluator.references.pretrained is /elsewhere/encoder",
        ),
    ],
)
def test_a_source_that_no_pod_can_read_is_refused(overrides, name):
    with pytest.raises(SettingsError, match=f"{name}, which the steps cannot read: .*kubeflow.volumes"):
        kubeflow.compile_pipeline(config.load("sample", overrides=[*EVERYTHING, *overrides]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoints": "/checkpoints"}, "trainer_volume names no PersistentVolumeClaim"),
        ({"checkpoints": "/checkpoints/a"}, "trainer_volume names no PersistentVolumeClaim"),
        ({"checkpoints": "/data", "trainer_volume": "claim"}, "lies on no volume"),
        ({"checkpoints": "minio://bucket/checkpoints"}, "lies on no volume"),
    ],
)
def test_checkpoints_that_would_be_lost_with_the_pod_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        KubeflowSettings(**settings)
    for fine in ("gs://bucket/checkpoints", "s3://bucket/checkpoints", "/tmp/checkpoints", "/shared/checkpoints"):
        KubeflowSettings(checkpoints=fine, volumes={"claim": "/shared"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"volumes": {"a": "/x", "b": "/x/"}}, "two volumes are mounted at /x:"),
        ({"volumes": {"a": "/x"}, "secret_files": {"s": "/x"}}, "two volumes are mounted at /x:"),
        ({"volumes": {"a": "/tmp"}}, "two volumes are mounted at /tmp:"),
        ({"secret_files": {"s": "/dev/shm"}}, "two volumes are mounted at /dev/shm:"),
        ({"volumes": {"a": "/checkpoints"}, "trainer_volume": "b"}, "two volumes are mounted at /checkpoints:"),
        ({"volumes": {"a": "/x"}, "trainer_volume": "a"}, "a is named in trainer_volume and in volumes"),
        ({"volumes": {"a": "/minio"}}, "two volumes are mounted at /minio:"),
        ({"volumes": {"my.claim": "/x"}}, r"my\.claim cannot be mounted"),
        ({"secret_files": {"s" * 64: "/x"}}, "s cannot be mounted"),
        ({"volumes": {"a": "/x"}, "secret_files": {"a": "/y"}}, "a names two volumes of a pod"),
        ({"trainer_volume": "a", "secret_files": {"a": "/y"}}, "a names two volumes of a pod"),
        ({"volumes": {"scratch": "/x"}}, "scratch names two volumes of a pod"),
        ({"environment": {"A": "1"}, "secrets": {"s": {"key": "A"}}}, "A is set twice"),
        ({"secrets": {"s": {"key": "A", "other": "A"}}}, "A is set twice"),
    ],
)
def test_mounts_that_kubernetes_would_refuse_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        KubeflowSettings(**settings)


def test_secrets_are_named_and_their_contents_are_nowhere(compiled, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    spec, platform = kubeflow.compile_pipeline(config.load("sample", overrides=EVERYTHING))
    assert "s3cret" not in json.dumps([spec, platform])
    for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        (secret,) = executor["secretAsEnv"]
        assert secret["secretName"] == "mlflow"
        assert secret["keyToEnv"] == [{"secretKey": "password", "envVar": "MLFLOW_TRACKING_PASSWORD"}]


def test_placeholders_stand_alone_as_the_backend_wants_them(compiled):
    """The driver replaces a constant that is a placeholder, and none inside of a longer text."""
    constants = [
        value["runtimeValue"]["constant"]
        for task in tasks(compiled[0]).values()
        for value in task.get("inputs", {}).get("parameters", {}).values()
        if "runtimeValue" in value
    ]
    with_placeholder = [text for text in constants if isinstance(text, str) and "{{$" in text]
    assert with_placeholder == ["{{$.pipeline_job_uuid}}"] * 2


def test_run_parameters_lead_to_properties_that_exist(compiled):
    spec, _ = compiled
    for task in TASKS:
        arguments = container(spec, task)["args"]
        values = {
            name: value["runtimeValue"]["constant"]
            for name, value in tasks(spec)[task].get("inputs", {}).get("parameters", {}).items()
            if "runtimeValue" in value
        }
        for flag, entry in pairwise(arguments):
            if flag != "--run_parameter":
                continue
            name, _, target = entry.partition("=")
            assert name in spec["root"]["inputDefinitions"]["parameters"]
            if target.startswith("env:"):
                continue
            found = values
            for step in target.split("."):
                found = json.loads(found) if isinstance(found, str) else found
                assert step in found, (task, entry)
                found = found[step]


def test_run_parameters_reach_every_step_that_holds_their_setting(compiled):
    """The record of a release, RegistryPusher's settings, must say what the other steps did."""
    spec, _ = compiled
    targets = {}
    for task in TASKS:
        for flag, entry in pairwise(container(spec, task)["args"]):
            if flag == "--run_parameter":
                name, _, target = entry.partition("=")
                targets.setdefault(name, {})[task] = target
    everywhere = {"DataResolver", "RegistryPusher"}
    assert {name: set(steps) for name, steps in targets.items()} == {
        **dict.fromkeys(("source", "span", "fingerprint", "only_new"), everywhere),
        "floor": everywhere | {"LinearProbeEvaluator"},
        "champion_alias": everywhere | {"ChampionResolver"},
        "epochs": everywhere | {"Trainer"},
        "registry_uri": everywhere | {"ChampionResolver"},
    }
    assert targets["epochs"]["Trainer"] == "custom_config.settings.epochs"
    assert targets["epochs"]["RegistryPusher"] == "settings.trainer.epochs"


def test_a_run_parameter_has_the_type_the_default_and_the_description_of_its_setting(compiled):
    parameters = compiled[0]["root"]["inputDefinitions"]["parameters"]
    found = {name: (one["parameterType"], one["defaultValue"]) for name, one in parameters.items()}
    assert found["epochs"] == ("NUMBER_INTEGER", 12)
    assert found["floor"] == ("NUMBER_DOUBLE", 0.45)
    assert found["only_new"] == ("NUMBER_INTEGER", 0)
    assert found["span"] == ("STRING", "")
    described = TrainerSettings.model_fields["epochs"].description
    assert parameters["epochs"]["description"] == f"{described} See trainer.epochs."


@pytest.mark.parametrize("length", ["duration=5 steps", "time_limit=1h"])
def test_a_length_that_is_not_in_epochs_leaves_no_run_parameter_for_them(length):
    for overrides, expected in (([], True), ([f"trainer.{length}"], False)):
        names = {parameter.name for parameter in run_parameters(config.load("sample", overrides=overrides), {})}
        assert ("epochs" in names) == expected


def test_quantities_are_those_of_kubernetes():
    for fine in ("500m", "4", "16Gi", "1.5"):
        assert KubeflowSettings(resources={"cpu": fine}).resources.cpu == fine
    with pytest.raises(ValidationError, match="cpu"):
        KubeflowSettings(resources={"cpu": "two"})


def test_an_environment_with_a_password_is_refused():
    with pytest.raises(ValidationError, match=r"put them into a Secret"):
        KubeflowSettings(environment={"MLFLOW_TRACKING_URI": "https://ada:s3cret@mlflow"})


if __name__ == "__main__":
    provenance.code_version = lambda: CODE
    GOLDEN.write_text(kubeflow.to_yaml(*kubeflow.compile_pipeline(config.load("sample", overrides=EVERYTHING))))
    print(f"Wrote {GOLDEN}: {len(list(yaml.safe_load_all(GOLDEN.read_text())))} documents.")
