"""The pod that Kubeflow Pipelines makes of a task: a Kubernetes manifest, and the container's environment.

The driver builds the pod from the task's container spec and from its executor config in the platform spec, the second
document of a compiled pipeline. It ignores what it does not read, and a pod then silently lacks it. Here, a field that
one of the versions 2.14.4 to 2.16.1 does not read is an error that names the field.

Sources, below backend/src/v2 of kubeflow/pipelines: `initPodSpecPatch` in driver/driver.go, `extendPodSpecPatch` in
driver/k8s.go, and `addContainerExecutorTemplate` in compiler/argocompiler/container.go.
"""

import re
from collections.abc import Mapping
from typing import Any

import kubernetes_validate

Message = dict[str, Any]

NAMESPACE = "kubeflow"
#: The Kubernetes version whose schema a pod must conform to: an older one than the newest that Kubeflow supports.
KUBERNETES = "1.31"
LAUNCHER = "/kfp-launcher/launch"
#: Folders that the workflow gives to each pod, and the volumes' names.
SCRATCH = {
    **{"kfp-launcher": "/kfp-launcher", "gcs-scratch": "/gcs", "s3-scratch": "/s3", "minio-scratch": "/minio"},
    **{"dot-local-scratch": "/.local", "dot-cache-scratch": "/.cache", "dot-config-scratch": "/.config"},
}
_CONTAINER = {"image", "command", "args", "env", "resources"}
_QUANTITIES = {
    "resourceCpuRequest": ("requests", "cpu"),
    "resourceCpuLimit": ("limits", "cpu"),
    "resourceMemoryRequest": ("requests", "memory"),
    "resourceMemoryLimit": ("limits", "memory"),
}
_EXECUTOR = {
    *("activeDeadlineSeconds", "emptyDirMounts", "fieldPathAsEnv", "imagePullPolicy", "imagePullSecret"),
    *("nodeSelector", "podMetadata", "pvcMount", "secretAsEnv", "secretAsVolume", "tolerations"),
}
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_QUANTITY = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>m|[kMGTPE]i?)?")
_REFERENCE = re.compile(r"\$(?:\$|\((?P<name>[^)]*)\))")


class UnknownField(AssertionError):
    """A field that a supported version of Kubeflow Pipelines does not read."""


class RefusedPod(AssertionError):
    """A pod that Kubernetes does not create, or whose container it cannot start."""


def pod(
    task: str,
    container: Message,
    executor: Message,
    name: str,
    launcher_arguments: list[str],
    retry: int | None = None,
    fs_group: int | None = None,
) -> Message:
    """Returns the manifest of a task's pod.

    Args:
        task: Name of the task, for messages.
        container: The task's container spec, from the pipeline spec.
        executor: The task's executor config, from the platform spec.
        name: Name of the pod.
        launcher_arguments: Arguments of the launcher, which come before the container's own command.
        retry: Number of earlier tries; None for a task without a retry policy.
        fs_group: `fsGroup` of the installation's pods, if it sets one.

    Raises:
        UnknownField: A supported version does not read a field.
        RefusedPod: Kubernetes does not create such a pod.
    """
    _require_known(container, f"{task}.container", _CONTAINER)
    _require_known(executor, f"{task}.platform", _EXECUTOR)
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    main: Message = {
        "name": "main",
        "image": container["image"],
        "command": [LAUNCHER, *launcher_arguments, "--"],
        "args": [*container["command"], *container.get("args", [])],
        "env": [
            {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "KFP_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            *([] if retry is None else [{"name": "KFP_RETRY_INDEX", "value": str(retry)}]),
        ],
        "envFrom": [{"configMapRef": {"name": "metadata-grpc-configmap", "optional": True}}],
        "resources": _resources(container.get("resources", {}), f"{task}.container.resources"),
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in SCRATCH.items()],
        "securityContext": security,
    }
    spec: Message = {
        "restartPolicy": "Never",
        "serviceAccountName": "pipeline-runner",
        "securityContext": {
            "seccompProfile": {"type": "RuntimeDefault"},
            **({} if fs_group is None else {"fsGroup": fs_group}),
        },
        "initContainers": [
            {
                "name": "kfp-launcher",
                "image": "ghcr.io/kubeflow/kfp-launcher:2.16.1",
                "command": ["launcher-v2"],
                "args": ["--copy", LAUNCHER],
                "volumeMounts": [{"name": "kfp-launcher", "mountPath": SCRATCH["kfp-launcher"]}],
            }
        ],
        "containers": [main],
        "volumes": [{"name": volume, "emptyDir": {}} for volume in SCRATCH],
    }
    metadata: Message = {
        "name": name,
        "namespace": NAMESPACE,
        "labels": {"pipelines.kubeflow.org/v2_component": "true"},
        "annotations": {"workflows.argoproj.io/node-name": f"{name}({retry or 0})"},
    }
    for variable in container.get("env", []):
        _require_known(variable, f"{task}.container.env", {"name", "value"})
        _merge(main["env"], "name", {"name": variable["name"], "value": variable.get("value", "")})
    _extend(spec, main, metadata, executor, f"{task}.platform")
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    require_valid(manifest)
    return manifest


def require_valid(manifest: Message) -> None:
    """Refuses what the API server of Kubernetes refuses: by its schema, and by the rules that no schema states.

    Raises:
        RefusedPod: The pod is refused.
    """
    name = manifest["metadata"]["name"]
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise RefusedPod(f"{name}: {'.'.join(map(str, error.path))}: {error.message}") from error
    volumes = manifest["spec"]["volumes"]
    for volume in volumes:
        if not _LABEL.fullmatch(volume["name"]):
            raise RefusedPod(f"{name}: the volume {volume['name']} has no name that a volume may have")
        if len(volume) != 2:
            raise RefusedPod(f"{name}: the volume {volume['name']} has several sources: {sorted(volume)}")
    (main,) = manifest["spec"]["containers"]
    for mount in main["volumeMounts"]:
        if mount["name"] not in {volume["name"] for volume in volumes} or ":" in mount["mountPath"]:
            raise RefusedPod(f"{name}: the mount {mount} is invalid")
    for variable in main["env"]:
        if "value" in variable and "valueFrom" in variable:
            raise RefusedPod(f"{name}: the variable {variable['name']} has two sources")
    limits = main["resources"]["limits"]
    for resource, requested in main["resources"]["requests"].items():
        if resource in limits and number(requested) > number(limits[resource]):
            raise RefusedPod(f"{name}: more {resource} is requested than the limit {limits[resource]}")


def environment(
    manifest: Message, image: Mapping[str, str], secrets: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """Returns the environment of the container `main`: of the image, of Kubernetes and of the manifest.

    Args:
        manifest: The pod.
        image: Environment that the image sets.
        secrets: Contents of the Secrets in the pod's namespace, by name and key.

    Raises:
        RefusedPod: A Secret, or a key of it, does not exist: the container does not start.
    """
    (main,) = manifest["spec"]["containers"]
    found = {
        **image,
        "HOSTNAME": manifest["metadata"]["name"],
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
        "METADATA_GRPC_SERVICE_HOST": "metadata-grpc-service.kubeflow",
        "METADATA_GRPC_SERVICE_PORT": "8080",
    }
    for variable in main["env"]:
        match variable:
            case {"valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}:
                if key not in secrets.get(secret, {}):
                    raise RefusedPod(f"{manifest['metadata']['name']}: the Secret {secret} has no key {key}")
                found[variable["name"]] = secrets[secret][key]
            case {"valueFrom": {"fieldRef": {"fieldPath": path}}}:
                fields = {
                    "metadata.name": manifest["metadata"]["name"],
                    "metadata.namespace": NAMESPACE,
                    "metadata.uid": f"uid-of-{manifest['metadata']['name']}",
                }
                found[variable["name"]] = fields[path]
            case _:
                found[variable["name"]] = expanded(variable["value"], found)
    return found


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Replaces `$(NAME)` as Kubernetes does in values, commands and arguments; `$$` stands for `$`."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match["name"], match[0])

    return _REFERENCE.sub(replace, text)


def _extend(spec: Message, main: Message, metadata: Message, executor: Message, where: str) -> None:
    """Adds the executor config, as strategic merge patches do: volumes and variables of one name become one."""

    def mount(volume: str, path: str, source: Message) -> None:
        _merge(spec["volumes"], "name", {"name": volume, **source})
        _merge(main["volumeMounts"], "mountPath", {"name": volume, "mountPath": path})

    for claim in executor.get("pvcMount", []):
        # Version 2.14.4 does not read subPath.
        _require_known(claim, f"{where}.pvcMount", {"pvcNameParameter", "constant", "mountPath"})
        name = _constant(claim["pvcNameParameter"], f"{where}.pvcMount")
        mount(name, claim["mountPath"], {"persistentVolumeClaim": {"claimName": name}})
    for secret in executor.get("secretAsVolume", []):
        fields = {"secretNameParameter", "secretName", "mountPath", "optional"}
        _require_known(secret, f"{where}.secretAsVolume", fields)
        name = _constant(secret["secretNameParameter"], f"{where}.secretAsVolume")
        source = {"secret": {"secretName": name, "optional": secret.get("optional", False)}}
        mount(name, secret["mountPath"], source)
    for secret in executor.get("secretAsEnv", []):
        # Version 2.14.4 does not read `optional`.
        _require_known(secret, f"{where}.secretAsEnv", {"secretNameParameter", "secretName", "keyToEnv"})
        name = _constant(secret["secretNameParameter"], f"{where}.secretAsEnv")
        for entry in secret["keyToEnv"]:
            _require_known(entry, f"{where}.secretAsEnv.keyToEnv", {"secretKey", "envVar"})
            reference = {"secretKeyRef": {"name": name, "key": entry["secretKey"]}}
            _merge(main["env"], "name", {"name": entry["envVar"], "valueFrom": reference})
    for entry in executor.get("fieldPathAsEnv", []):
        _require_known(entry, f"{where}.fieldPathAsEnv", {"name", "fieldPath"})
        reference = {"fieldRef": {"fieldPath": entry["fieldPath"]}}
        _merge(main["env"], "name", {"name": entry["name"], "valueFrom": reference})
    for empty in executor.get("emptyDirMounts", []):
        _require_known(empty, f"{where}.emptyDirMounts", {"volumeName", "mountPath", "medium", "sizeLimit"})
        mount(empty["volumeName"], empty["mountPath"], {"emptyDir": _chosen(empty, "medium", "sizeLimit")})
    for secret in executor.get("imagePullSecret", []):
        _require_known(secret, f"{where}.imagePullSecret", {"secretNameParameter", "secretName"})
        name = _constant(secret["secretNameParameter"], f"{where}.imagePullSecret")
        spec.setdefault("imagePullSecrets", []).append({"name": name})
    for toleration in executor.get("tolerations", []):
        fields = {"key", "operator", "value", "effect", "tolerationSeconds"}
        _require_known(toleration, f"{where}.tolerations", fields)
        numbers = {name: int(toleration[name]) for name in ("tolerationSeconds",) if name in toleration}
        spec.setdefault("tolerations", []).append(toleration | numbers)
    if policy := executor.get("imagePullPolicy"):
        main["imagePullPolicy"] = policy
    if seconds := int(executor.get("activeDeadlineSeconds", 0)):
        spec["activeDeadlineSeconds"] = seconds
    if selector := executor.get("nodeSelector"):
        _require_known(selector, f"{where}.nodeSelector", {"labels"})
        spec["nodeSelector"] = selector.get("labels", {})
    added = executor.get("podMetadata", {})
    _require_known(added, f"{where}.podMetadata", {"labels", "annotations"})
    for kind, entries in added.items():
        # Those of the workflow have priority.
        metadata[kind] = entries | metadata[kind]


def _resources(given: Message, where: str) -> Message:
    _require_known(given, where, {*_QUANTITIES, "accelerator"})
    found: Message = {"requests": {}, "limits": {}}
    for field, (group, resource) in _QUANTITIES.items():
        if field in given:
            found[group][resource] = given[field]
    if accelerator := given.get("accelerator"):
        _require_known(accelerator, f"{where}.accelerator", {"resourceType", "resourceCount"})
        found["limits"][accelerator["resourceType"]] = accelerator["resourceCount"]
    for group in found.values():
        for quantity in group.values():
            assert _QUANTITY.fullmatch(quantity), f"{where}: {quantity} is not a quantity"
    return found


def _require_known(message: Message, where: str, fields: set[str]) -> None:
    for name in sorted(message.keys() - fields):
        raise UnknownField(f"{where}.{name} is not read by every version of Kubeflow Pipelines from 2.14.4 to 2.16.1")


def _constant(parameter: Message, where: str) -> str:
    _require_known(parameter, where, {"runtimeValue"})
    return parameter["runtimeValue"]["constant"]


def _chosen(message: Message, *names: str) -> Message:
    return {name: message[name] for name in names if name in message}


def _merge(items: list[Message], key: str, item: Message) -> None:
    for known in items:
        if known[key] == item[key]:
            known.update(item)
            return
    items.append(item)


def number(quantity: str) -> float:
    """Returns the value of a quantity in Kubernetes' notation."""
    match = _QUANTITY.fullmatch(quantity)
    assert match, quantity
    unit = match["unit"] or ""
    if unit == "m":
        return float(match["number"]) / 1000
    base = 1024 if unit.endswith("i") else 1000
    return float(match["number"]) * base ** (" kMGTPE".index(unit[0]) if unit else 0)
