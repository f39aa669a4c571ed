"""Empties the folders that a component writes its outputs to."""

from tfx import types
from tfx.dsl.io import fileio


def empty(output_dict: dict[str, list[types.Artifact]]) -> None:
    """Deletes the files that an earlier attempt of the same execution left in its output folders.

    On Kubeflow all attempts of an execution share their output folders.

    Args:
        output_dict: The output artifacts of the execution. Their folders need not exist.
    """
    for artifacts in output_dict.values():
        for artifact in artifacts:
            if not fileio.isdir(artifact.uri):
                continue
            for name in fileio.listdir(artifact.uri):
                path = f"{artifact.uri.rstrip('/')}/{name.rstrip('/')}"
                if fileio.isdir(path):
                    fileio.rmtree(path)
                else:
                    fileio.remove(path)
