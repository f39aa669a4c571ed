"""The settings of a pipeline on Kubeflow."""

import posixpath
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from components.image_example_gen.sources.files import CLOUD
from components.model_registry.credentials import holds_credentials
from trainer.config import StrictModel

#: Where the claim `trainer_volume` is mounted in the Trainer.
CHECKPOINTS = "/checkpoints"
#: Folders that every step has for itself, on the node's disk and in memory.
SCRATCH, SHARED_MEMORY = "/tmp", "/dev/shm"
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


class ResourceSettings(StrictModel):
    """Resources of a step's pod."""

    cpu: Quantity = Field("2", description="CPU cores that the pod requests.")
    memory: Quantity = Field("8Gi", description="Memory that the pod requests, which is also its limit.")


class TrainerResourceSettings(ResourceSettings):
    """Resources of the Trainer's pod."""

    cpu: Quantity = Field("4", description="CPU cores that the pod requests.")
    memory: Quantity = Field("16Gi", description="Memory that the pod requests, which is also its limit.")


class TolerationSettings(StrictModel):
    """A toleration of a step's pod, with the fields of Kubernetes."""

    key: str | None = Field(None, description="Key of the taint. If null, every key.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="How the taint's value is compared.")
    value: str | None = Field(None, description="Value of the taint, for the operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint. If null, every effect."
    )


def can_reach(path: str, mount_paths: Iterable[str]) -> bool:
    """Returns whether a step can read and write a path: a `gs://` URI, or a path on a volume.

    Args:
        path: The path.
        mount_paths: Folders at which the step's volumes are mounted.
    """
    local = PurePosixPath(posixpath.normpath(path))
    return path.startswith(CLOUD) or any(local.is_relative_to(folder) for folder in mount_paths)


class KubeflowSettings(StrictModel):
    """How the steps run in a cluster. Secrets are named here; their contents are never part of the settings."""

    image: str = Field("nnclr:latest", description="Container image with nnclr, see infra/Dockerfile.")
    pipeline_root: str | None = Field(
        None,
        description="Folder for artifacts: a gs://, s3:// or minio:// URI. If null, the default of Kubeflow Pipelines.",
    )
    checkpoints: str = Field(
        "/tmp/nnclr-checkpoints",
        description="Folder for the checkpoints of unfinished trainings: a gs:// URI, or a folder of trainer_volume. "
        "Below /tmp, a training whose pod is lost starts again from the beginning.",
    )
    trainer_volume: str | None = Field(
        None, description="Name of a PersistentVolumeClaim that is mounted at /checkpoints in the Trainer's pod."
    )
    resources: ResourceSettings = Field(ResourceSettings(), description="Resources of every step except the Trainer.")
    trainer_resources: TrainerResourceSettings = Field(
        TrainerResourceSettings(), description="Resources of the Trainer."
    )
    gpus: Annotated[int, Field(ge=0)] = Field(
        0, description="Number of GPUs (nvidia.com/gpu) of the Trainer. The other steps get none."
    )
    node_selector: dict[str, str] = Field({}, description="Labels that the Trainer's node must have.")
    tolerations: tuple[TolerationSettings, ...] = Field((), description="Tolerations of the Trainer's pod.")
    shared_memory: Quantity = Field("1Gi", description="Size of /dev/shm, which counts towards a step's memory.")
    scratch: Quantity = Field("20Gi", description="Disk space that a step may use in /tmp.")
    retries: Annotated[int, Field(ge=0)] = Field(2, description="Number of times that a failed step is retried.")
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
                f"name its claim in trainer_volume, or choose a {CLOUD} URI"
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
