"""Adds the step that sends notifications when a run has ended, however it ended.

This is what kfp's own compiler generates for `dsl.ExitHandler`: all other tasks go into a sub-DAG, and an exit task
waits for its end. Since version 2.5, Kubeflow Pipelines makes the exit task a hook of Argo, whose own result does not
change that of the run (kubeflow/pipelines#11470).
"""

from typing import Any

from kfp import dsl

from pipeline.config import Settings
from pipeline.config.kubeflow import NOTIFIER, KubeflowSettings
from pipeline.kubeflow.notifier import PIPELINE_RUN, SETTINGS, NotifierSettings
from pipeline.kubeflow.parameters import PREFIX, REGISTRY_URI
from trainer.errors import SettingsError

#: The label of the exit task's container.
EXECUTOR = f"{NOTIFIER}_executor"
# The task whose sub-DAG holds all other tasks.
_RUN = "Run"


def require_variables(settings: Settings) -> None:
    """Checks that the steps will have the environment variables that contain addresses of receivers.

    Raises:
        SettingsError: If one is missing.
    """
    cluster: KubeflowSettings = settings.kubeflow
    known = {*cluster.environment, *(variable for keys in cluster.secrets.values() for variable in keys.values())}
    for number, receiver in enumerate(settings.notify):
        if receiver.url_from and receiver.url_from not in known:
            raise SettingsError(
                f"notify.{number}.url_from names the environment variable {receiver.url_from}, which the steps do not "
                f"have: name the Secret that holds it, for instance kubeflow.secrets={{chat: {{url: "
                f"{receiver.url_from}}}}}."
            )


def add(spec: dict[str, Any], settings: Settings, container: dict[str, Any]) -> None:
    """Moves all tasks into a sub-DAG, and adds the exit task.

    Args:
        spec: A pipeline spec, which is changed.
        settings: All settings.
        container: The container of the exit task, without its arguments.
    """
    given = NotifierSettings(pipeline=settings.name, model_name=settings.registry.model_name, receivers=settings.notify)
    root = spec["root"]
    kinds = {
        name: {"parameterType": parameter["parameterType"]}
        for name, parameter in root.get("inputDefinitions", {}).get("parameters", {}).items()
    }
    spec["deploymentSpec"]["executors"][EXECUTOR] = {"container": container | {"args": ["{{$}}"]}}
    inputs = {
        SETTINGS: {"runtimeValue": {"constant": given.model_dump_json()}},
        PIPELINE_RUN: {"runtimeValue": {"constant": dsl.PIPELINE_JOB_ID_PLACEHOLDER}},
        f"{PREFIX}{REGISTRY_URI}": {"componentInputParameter": REGISTRY_URI},
    }
    spec["components"] |= {
        _RUN: {"dag": root["dag"], "inputDefinitions": {"parameters": kinds}},
        NOTIFIER: {
            "executorLabel": EXECUTOR,
            "inputDefinitions": {"parameters": {name: {"parameterType": "STRING"} for name in inputs}},
        },
    }
    root["dag"] = {
        "tasks": {
            _RUN: {
                "componentRef": {"name": _RUN},
                "inputs": {"parameters": {name: {"componentInputParameter": name} for name in kinds}},
                "taskInfo": {"name": _RUN},
            },
            NOTIFIER: {
                "cachingOptions": {},
                "componentRef": {"name": NOTIFIER},
                "dependentTasks": [_RUN],
                "inputs": {"parameters": inputs},
                "taskInfo": {"name": NOTIFIER},
                "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
            },
        }
    }
