"""The settings of a pipeline on Kubeflow."""

import posixpath
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from components.model_registry.credentials import holds_credentials
from trainer import storage
from trainer.config import StrictModel

#: Where the claim `trainer_volume` is mounted in the Trainer.
CHECKPOINTS = "/checkpoints"
#: Folders that every step has for itself, on the node's disk and in memory.
SCRATCH, SHARED_MEMORY = "/tmp", "/dev/shm"  # noqa: S108 (no other user shares a pod's folders)
TRAINER, DATA_GATE, NOTIFIER = "Trainer", "DataGate", "Notifier"
#: The steps of the pipeline that start a pod. Those of the labelled set exist only if `evaluator.data` is set, and
#: Notifier only if `notify` is set.
STEPS = (
    *("ChampionResolver", DATA_GATE, "DataResolver", "ExampleValidator", "ImageExampleGen", "LabelledExampleGen"),
    *(
        "LabelledExampleValidator",
        "LabelledStatisticsGen",
        "LinearProbeEvaluator",
        NOTIFIER,
        "RegistryPusher",
        "SchemaImporter",
        "StatisticsGen",
        TRAINER,
    ),
)
# By these prefixes of labels and annotations, Argo and Kubeflow Pipelines find the pods of a run.
_RESERVED_PREFIXES = ("workflows.argoproj.io/", "pipelines.kubeflow.org/", "pipeline/")
# Names of volumes that each pod has anyway: of this project, of Kubeflow Pipelines and of Argo.
_VOLUMES = {
    *("scratch", "shm", "kfp-launcher", "gcs-scratch", "s3-scratch", "minio-scratch", "dot-local-scratch"),
    *("dot-cache-scratch", "dot-config-scratch", "var-run-argo", "tmp-dir-argo", "input-artifacts"),
}
# Folders of each pod that belong to the launcher of Kubeflow Pipelines.
_LAUNCHER_FOLDERS = ("/gcs", "/s3", "/minio", "/kfp-launcher")
# A name that Kubernetes accepts for a volume. Names of claims and Secrets may be longer and contain dots.
_VOLUME_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]i?)?$"
# Quantities in Kubernetes' notation: 500m, 4, 16Gi. YAML reads some of them as numbers.
Quantity = Annotated[
    str,
    BeforeValidator(
        lambda value: str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    ),
    Field(pattern=_QUANTITY),
    WithJsonSchema({"type": ["string", "number"], "pattern": _QUANTITY, "examples": ["500m", "4", "16Gi"]}),
]
MountPath = Annotated[str, Field(pattern=r"^/[^:]+$", examples=["/images"])]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_DNS_NAME = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"


def _is_name(text: str) -> bool:
    return len(text) <= 63 and re.fullmatch(_NAME, text) is not None


def _label_key(key: str) -> str:
    """Refuses a key of a label, an annotation or a taint that Kubernetes would refuse."""
    prefix, slash, name = key.rpartition("/")
    if not _is_name(name) or (slash and (len(prefix) > 253 or not re.fullmatch(_DNS_NAME, prefix))):
        raise ValueError(
            "A key in Kubernetes is a name of at most 63 letters, digits, hyphens, underscores and dots, which begins "
            "and ends with a letter or digit; a domain name in lower case and a slash may stand before it"
        )
    return key


def _label_value(value: str) -> str:
    """Refuses a value of a label or a taint that Kubernetes would refuse."""
    if value and not _is_name(value):
        raise ValueError(
            "A label's value is empty, or it consists of at most 63 letters, digits, hyphens, underscores and dots and "
            "begins and ends with a letter or digit"
        )
    return value


def _step_name(name: str) -> str:
    if name not in STEPS:
        raise ValueError(f"The pipeline has no such step. Its steps are {', '.join(STEPS[:-1])} and {STEPS[-1]}")
    return name


LabelKey = Annotated[
    str,
    AfterValidator(_label_key),
    WithJsonSchema({"type": "string", "pattern": f"^([a-z0-9.-]+/)?{_NAME}$"}),
]
LabelValue = Annotated[
    str,
    AfterValidator(_label_value),
    WithJsonSchema({"type": "string", "pattern": f"^({_NAME})?$", "maxLength": 63, "examples": ["vision"]}),
]
StepName = Annotated[str, AfterValidator(_step_name), WithJsonSchema({"type": "string", "enum": list(STEPS)})]


class ResourceSettings(StrictModel):
    """Resources of each step's pod except the Trainer's. kubeflow.steps overrides them for single steps."""

    cpu: Quantity = Field("2", description="CPU cores that the pod requests.")
    memory: Quantity = Field("8Gi", description="Memory that the pod requests, which is also its limit.")


# What steps need that need something else.
_OWN_RESOURCES = {
    TRAINER: ResourceSettings(cpu="4", memory="16Gi"),
    NOTIFIER: ResourceSettings(cpu="500m", memory="2Gi"),
}


class TolerationSettings(StrictModel):
    """A toleration of a step's pod, with the fields of Kubernetes."""

    key: LabelKey | None = Field(None, description="Key of the taint. If null, every key, for the operator Exists.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="How the taint's value is compared.")
    value: LabelValue | None = Field(None, description="Value of the taint, for the operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint. If null, every effect."
    )

    @model_validator(mode="after")
    def _operator_fits(self) -> "TolerationSettings":
        """Refuses what Kubernetes would refuse when the step starts."""
        if self.operator == "Equal" and self.key is None:
            raise ValueError("A toleration of every key needs the operator Exists")
        if self.operator == "Exists" and self.value:
            raise ValueError("The operator Exists takes no value")
        return self


class StepSettings(StrictModel):
    """Settings of one step's pod. NAME is the name of the step, for instance Trainer or LinearProbeEvaluator."""

    cpu: Quantity | None = Field(
        None,
        description="CPU cores that the pod requests. If null, 4 for the Trainer, 500m for Notifier, and "
        "kubeflow.resources.cpu for every other step.",
    )
    memory: Quantity | None = Field(
        None,
        description="Memory that the pod requests, which is also its limit. If null, 16Gi for the Trainer, 2Gi for "
        "Notifier, and kubeflow.resources.memory for every other step.",
    )
    gpus: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Number of GPUs (nvidia.com/gpu). LinearProbeEvaluator uses one for the embeddings and for "
        "fine-tuning.",
    )
    node_selector: dict[LabelKey, LabelValue] = Field({}, description="Labels that the node must have.")
    tolerations: tuple[TolerationSettings, ...] = Field((), description="Tolerations of the pod.")
    timeout_seconds: Annotated[int, Field(gt=0, lt=2**31)] | None = Field(
        None,
        description="Number of seconds after which Kubernetes ends a pod that still runs. The attempt has then failed, "
        "and the next one has as many seconds. If null, there is no limit.",
    )
    retries: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Number of times that the step is retried if it fails. If null, 0 for DataGate, which would refuse "
        "the same data again, 0 for Notifier, and kubeflow.retries for every other step.",
    )


def can_reach(path: str, mount_paths: Iterable[str]) -> bool:
    """Returns whether a step can read and write a path: the URI of something in a bucket, or a path on a volume.

    Args:
        path: The path.
        mount_paths: Folders at which the step's volumes are mounted.
    """
    local = PurePosixPath(posixpath.normpath(path))
    return storage.in_bucket(path) or any(local.is_relative_to(folder) for folder in mount_paths)


class KubeflowSettings(StrictModel):
    """How the steps run in a cluster. Secrets are named here; their contents are never part of the settings."""

    moved: ClassVar[dict[str, str]] = {
        "gpus": "kubeflow.steps.Trainer.gpus",
        "node_selector": "kubeflow.steps.Trainer.node_selector",
        "tolerations": "kubeflow.steps.Trainer.tolerations",
        "trainer_resources": "kubeflow.steps.Trainer.cpu and kubeflow.steps.Trainer.memory",
    }

    image: str = Field("nnclr:latest", description="Container image with nnclr, see infra/Dockerfile.")
    pipeline_root: str | None = Field(
        None,
        description="Folder for artifacts: a gs://, s3:// or minio:// URI. If null, the default of Kubeflow Pipelines.",
    )
    checkpoints: str = Field(
        "/tmp/nnclr-checkpoints",  # noqa: S108 (no other user shares a pod's folders)
        description="Folder for the checkpoints of unfinished trainings: a gs:// or s3:// URI, or a folder of "
        "trainer_volume. Below /tmp, a training whose pod is lost starts again from the beginning.",
    )
    trainer_volume: str | None = Field(
        None, description="Name of a PersistentVolumeClaim that is mounted at /checkpoints in the Trainer's pod."
    )
    resources: ResourceSettings = ResourceSettings()
    steps: dict[StepName, StepSettings] = Field(
        {},
        description="Settings of single steps by name: resources, GPUs, nodes and time limit. For instance "
        "`Trainer: {gpus: 1}`.",
    )
    pod_labels: dict[LabelKey, LabelValue] = Field(
        {},
        description="Labels of every step's pod, for instance for cost accounting and network policies. The pods of "
        "Kubeflow Pipelines' drivers do not get them.",
    )
    pod_annotations: dict[LabelKey, str] = Field({}, description="Annotations of every step's pod.")
    shared_memory: Quantity = Field("1Gi", description="Size of /dev/shm, which counts towards a step's memory.")
    scratch: Quantity = Field("20Gi", description="Disk space that a step may use in /tmp.")
    retries: Annotated[int, Field(ge=0)] = Field(
        2,
        description="Number of times that a failed step is retried, even after an error in the settings or the images: "
        "Kubeflow Pipelines does not tell Argo why a step failed. kubeflow.steps overrides it for single steps.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        None,
        description="When a node pulls the image. If null, Kubernetes decides: `Always` for the tag `latest`, even if "
        "the image was loaded into kind or k3s, and `IfNotPresent` for every other tag.",
    )
    image_pull_secrets: tuple[str, ...] = Field(
        (), description="Names of the Secrets with the credentials of the image's registry."
    )
    volumes: dict[str, MountPath] = Field(
        {},
        description="PersistentVolumeClaims that every step mounts, for instance the one that holds the images: paths "
        "by the names of the claims.",
    )
    secret_files: dict[str, MountPath] = Field(
        {},
        description="Secrets that every step mounts as files: folders by the names of the Secrets.",
    )
    environment: dict[EnvironmentName, str] = Field(
        {}, description="Environment variables of every step, for instance MLFLOW_TRACKING_URI. They hold no secrets."
    )
    secrets: dict[str, dict[str, EnvironmentName]] = Field(
        {},
        description="Environment variables that are read from Kubernetes Secrets: by the name of the Secret, the name "
        "of the variable for each key.",
    )

    def step(self, name: str) -> StepSettings:
        """Returns the settings of a step's pod, with the defaults for what the settings of the step leave out."""
        given = self.steps.get(name, StepSettings())
        resources = _OWN_RESOURCES.get(name, self.resources)
        # A second try of the notifier would tell everybody a second time.
        retries = 0 if name in (DATA_GATE, NOTIFIER) else self.retries
        defaults = {"cpu": resources.cpu, "memory": resources.memory, "retries": retries}
        return given.model_copy(
            update={name: default for name, default in defaults.items() if getattr(given, name) is None}
        )

    @field_validator("pod_labels", "pod_annotations")
    @classmethod
    def _without_reserved_keys(cls, metadata: dict[str, str]) -> dict[str, str]:
        for key in metadata:
            if key.startswith(_RESERVED_PREFIXES):
                raise ValueError(
                    f"Argo and Kubeflow Pipelines find the pods of a run by keys such as {key}: choose another key"
                )
        return metadata

    @model_validator(mode="after")
    def _mounts_are_distinct(self) -> "KubeflowSettings":
        """Refuses what Kubernetes would refuse when the first step starts."""
        if self.trainer_volume in self.volumes:
            raise ValueError(
                f"{self.trainer_volume} is named in trainer_volume and in volumes: name the claim in one of them, and "
                "choose checkpoints below its path"
            )
        paths = [SCRATCH, SHARED_MEMORY, *self.volumes.values(), *self.secret_files.values()]
        if self.trainer_volume:
            paths.append(CHECKPOINTS)
        folders = [posixpath.normpath(path) for path in (*paths, *_LAUNCHER_FOLDERS)]
        if repeated := sorted({folder for folder in folders if folders.count(folder) > 1}):
            raise ValueError(
                f"two volumes are mounted at {', '.join(repeated)}: give each claim in volumes and each Secret in "
                f"secret_files a path of its own. Taken are {SCRATCH}, {SHARED_MEMORY}, {', '.join(_LAUNCHER_FOLDERS)} "
                f"and, by trainer_volume, {CHECKPOINTS}"
            )
        return self

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "KubeflowSettings":
        """Refuses what Kubernetes would refuse, because Kubeflow Pipelines names volumes after claims and Secrets."""
        claims = {*self.volumes, *([self.trainer_volume] if self.trainer_volume else [])}
        for name in sorted(claims | self.secret_files.keys()):
            if not _VOLUME_NAME.fullmatch(name):
                raise ValueError(
                    f"{name} cannot be mounted: Kubeflow Pipelines names the volume after it, and Kubernetes allows "
                    "only 63 lower-case letters, digits and hyphens there"
                )
            if name in _VOLUMES or (name in claims and name in self.secret_files):
                raise ValueError(
                    f"{name} names two volumes of a pod, because Kubeflow Pipelines names volumes after claims and "
                    "Secrets: choose a claim or a Secret with another name"
                )
        variables = [variable for keys in self.secrets.values() for variable in keys.values()]
        if repeated := sorted({name for name in variables if variables.count(name) > 1 or name in self.environment}):
            raise ValueError(
                f"{', '.join(repeated)} is set twice: name each variable once in environment or in secrets"
            )
        return self

    @model_validator(mode="after")
    def _checkpoints_lie_on_a_volume(self) -> "KubeflowSettings":
        if can_reach(self.checkpoints, [SCRATCH, *self.volumes.values()]):
            return self
        if not can_reach(self.checkpoints, [CHECKPOINTS]):
            raise ValueError(
                f"checkpoints is {self.checkpoints}, which lies on no volume: choose a folder below {CHECKPOINTS} and "
                f"name its claim in trainer_volume, or choose a {' or '.join(storage.BUCKETS)} URI"
            )
        if not self.trainer_volume:
            raise ValueError(
                f"checkpoints is {self.checkpoints}, but trainer_volume names no PersistentVolumeClaim that is mounted "
                f"at {CHECKPOINTS}"
            )
        return self

    @field_validator("environment")
    @classmethod
    def _without_credentials(cls, environment: dict[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            # Many people can read a compiled pipeline.
            if holds_credentials(value):
                raise ValueError(
                    f"{name} holds a user or a password: put them into a Secret and name it in kubeflow.secrets "
                    "(MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, for MLflow)"
                )
        return environment
