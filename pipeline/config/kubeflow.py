"""What the pipeline needs to know of a cluster."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from components.model_registry.credentials import holds_credentials
from trainer.config import StrictModel

# Kubernetes' own notation: 500m, 4, 16Gi.
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]i?)?$", examples=["500m", "4", "16Gi"])]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Resources(StrictModel):
    """What a step's pod asks for, and may use at most."""

    cpu: Quantity = "2"
    memory: Quantity = "8Gi"


class Toleration(StrictModel):
    """A taint that a step's pod puts up with, as Kubernetes writes it."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class KubeflowSettings(StrictModel):
    """How the steps run in a cluster. Secrets are named here, their contents are not."""

    image: str = Field("nnclr:latest", description="container image with nnclr, see infra/Dockerfile")
    pipeline_root: str | None = Field(
        None, description="where artifacts go: gs://, s3:// or minio://; the cluster's default if null"
    )
    checkpoints: str = Field(
        "/tmp/nnclr-checkpoints",
        description="where unfinished trainings keep their state: gs://, or a folder of trainer_volume; below /tmp a "
        "training whose pod is lost starts anew",
    )
    trainer_volume: str | None = Field(
        None, description="name of a PersistentVolumeClaim to mount at /checkpoints in the Trainer"
    )
    resources: Resources = Field(Resources(), description="of every step but the Trainer")
    trainer_resources: Resources = Field(Resources(cpu="4", memory="16Gi"), description="of the Trainer")
    gpus: Annotated[int, Field(ge=0)] = Field(0, description="nvidia.com/gpu of the Trainer; all others see none")
    node_selector: dict[str, str] = Field({}, description="labels that the Trainer's node must have")
    tolerations: tuple[Toleration, ...] = Field((), description="of the Trainer")
    shared_memory: Quantity = Field("1Gi", description="size of /dev/shm, which comes out of a step's memory")
    scratch: Quantity = Field("20Gi", description="most disk that a step may take in /tmp")
    retries: Annotated[int, Field(ge=0)] = Field(2, description="how often a failed step is tried again")
    environment: dict[EnvironmentName, str] = Field(
        {}, description="environment variables of every step, MLFLOW_TRACKING_URI for instance; no secrets"
    )
    secrets: dict[str, dict[str, EnvironmentName]] = Field(
        {}, description="environment variables from Secrets: name of the Secret, then its key and the variable's name"
    )

    @field_validator("environment")
    @classmethod
    def _without_credentials(cls, environment: dict[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            # What is compiled can be read by many.
            if holds_credentials(value):
                raise ValueError(
                    f"{name} holds a user or a password: put them into a Secret and name it in kubeflow.secrets "
                    "(MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, for MLflow)"
                )
        return environment
