"""Ends a run early where nothing is new: all that follows DataResolver becomes a sub-DAG with a condition.

It is what kfp's own compiler makes of `dsl.If`; TFX's makes conditions that open-source Kubeflow Pipelines cannot
evaluate.
"""

from typing import Any

from components.data_resolver import artifact

RESOLVER = "DataResolver"
# The task that holds all others.
REST = "TrainAndRelease"


def nest(spec: dict[str, Any]) -> None:
    """Moves all tasks of a flat pipeline spec but DataResolver into a sub-DAG that runs if DataResolver says `new`.

    Args:
        spec: changed.
    """
    tasks = spec["root"]["dag"]["tasks"]
    inner = {name: task for name, task in tasks.items() if name != RESOLVER}
    root = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    given: dict[str, Any] = {}
    kinds: dict[str, Any] = {}

    def from_resolver(output: str) -> str:
        name = f"pipelinechannel--{RESOLVER}-{output}"
        given[name] = {"taskOutputParameter": {"producerTask": RESOLVER, "outputParameterKey": output}}
        kinds[name] = {"parameterType": "STRING"}
        return name

    for task in inner.values():
        for value in task.get("inputs", {}).get("parameters", {}).values():
            if output := value.pop("taskOutputParameter", None):
                value["componentInputParameter"] = from_resolver(output["outputParameterKey"])
            elif name := value.get("componentInputParameter"):
                given[name] = {"componentInputParameter": name}
                kinds[name] = {"parameterType": root[name]["parameterType"]}
        before = [name for name in task.pop("dependentTasks", []) if name != RESOLVER]
        if before:
            task["dependentTasks"] = before
    # Only what another component takes as a parameter is declared as one by TFX.
    outputs = spec["components"][RESOLVER]["outputDefinitions"].setdefault("parameters", {})
    outputs[artifact.NEWS] = {"parameterType": "STRING"}
    news = from_resolver(artifact.NEWS)
    spec["components"][REST] = {"dag": {"tasks": inner}, "inputDefinitions": {"parameters": kinds}}
    spec["root"]["dag"]["tasks"] = {
        RESOLVER: tasks[RESOLVER],
        REST: {
            "componentRef": {"name": REST},
            "dependentTasks": [RESOLVER],
            "inputs": {"parameters": given},
            "taskInfo": {"name": REST},
            "triggerPolicy": {"condition": f"inputs.parameter_values['{news}'] == '{artifact.NEW}'"},
        },
    }
