"""Skips all components after DataResolver if nothing is new: they become a sub-DAG with a condition.

This is what kfp's own compiler generates for `dsl.If`. TFX's compiler generates conditions that open-source Kubeflow
Pipelines cannot evaluate.
"""

from typing import Any

from components.data_resolver import artifact

RESOLVER = "DataResolver"
# The task whose sub-DAG holds all other tasks.
REST = "TrainAndRelease"


def nest(spec: dict[str, Any]) -> None:
    """Moves all tasks except DataResolver into a sub-DAG, which runs if DataResolver's output `news` is `new`.

    Args:
        spec: A flat pipeline spec, which is changed.
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
    # TFX declares only those outputs as parameters that another component uses.
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
