"""Where a component writes its outputs: a folder that is empty at the start."""

from tfx import types
from tfx.dsl.io import fileio


def empty(output_dict: dict[str, list[types.Artifact]]) -> None:
    """Deletes what an earlier try of the same execution left: on Kubeflow all tries share their output folders."""
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
