"""The connection to a host of Kubeflow Pipelines, through the kfp client and its authentication."""

import contextlib
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.kubeflow.package import Package
from trainer.errors import UserError

#: The least version of Kubeflow Pipelines. Older ones retry no step in a nested DAG.
LEAST_VERSION = (2, 14)


@dataclass(frozen=True)
class PipelineVersion:
    """A version of a pipeline on a host.

    Attributes:
        pipeline_id: The id of the pipeline.
        version_id: The id of the version.
    """

    pipeline_id: str
    version_id: str


class Host:
    """A host of Kubeflow Pipelines.

    Args:
        address: The address of the host, `http://...` or `https://...`.
        namespace: The Kubernetes namespace, if the host has several users.

    Attributes:
        address: The address without a trailing slash.
        namespace: The Kubernetes namespace.
        client: The kfp client. Wrap calls of the client in `understandable`, which translates its errors.
    """

    def __init__(self, address: str, namespace: str | None = None):
        self.address, self.namespace = address.rstrip("/"), namespace
        # Keeps the client's log messages about failed attempts off the screen: `understandable` reports the error.
        logging.getLogger().addHandler(logging.NullHandler())
        with self.understandable():
            import kfp

            self.client = kfp.Client(host=self.address, namespace=namespace or "kubeflow")

    def upload(self, package: Package) -> PipelineVersion:
        """Uploads a package as a version of the pipeline of its name, unless the host has this version.

        Raises:
            UserError: If the host runs a version of Kubeflow Pipelines that is too old.
        """
        self._require_supported_version()
        with self.understandable():
            pipeline_id = self.client.get_pipeline_id(package.name) or self._create_pipeline(package.name)
            version = self._find_version(pipeline_id, package.version) or self.client.upload_pipeline_version(
                str(package.path), package.version, pipeline_id=pipeline_id, description=package.description
            )
        return PipelineVersion(pipeline_id, version.pipeline_version_id)

    def _create_pipeline(self, name: str) -> str:
        """Creates a pipeline without a version, for which the client has no method of its own; returns its id."""
        import kfp_server_api

        pipeline = kfp_server_api.V2beta1Pipeline(display_name=name, namespace=self.namespace)
        return self.client.pipelines.pipeline_service_create_pipeline(pipeline=pipeline).pipeline_id

    def _find_version(self, pipeline_id: str, name: str) -> Any:
        """Returns the version with a name, as the kfp client describes it, or None."""
        predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
        found = self.client.list_pipeline_versions(pipeline_id, filter=json.dumps({"predicates": [predicate]}))
        return found.pipeline_versions[0] if found.pipeline_versions else None

    def _require_supported_version(self) -> None:
        """Refuses a version of Kubeflow Pipelines that is too old. A host that does not report its version is accepted.

        The kfp client's class for the host's health has no field for the version. The API server and the server of the
        web interface, which forwards requests to it, report the version under different names.
        """
        with self.understandable():
            response = self.client.healthzs.healthz_service_get_healthz(_preload_content=False)
            health = json.loads(response.data)
        version = str(health.get("tag_name") or health.get("apiServerTagName") or "")
        match = re.match(r"v?(\d+)\.(\d+)", version)
        if match and (int(match[1]), int(match[2])) < LEAST_VERSION:
            least = ".".join(map(str, LEAST_VERSION))
            raise UserError(
                f"{self.address} runs Kubeflow Pipelines {version}, which does not retry failed steps of this "
                f"pipeline. Upgrade it to {least} or newer."
            )

    @contextlib.contextmanager
    def understandable(self) -> Iterator[None]:
        """Turns errors of the kfp client into a `UserError` of one sentence."""
        import kfp_server_api
        from urllib3.exceptions import HTTPError

        # The client prints links for notebooks, and warns about known deprecations.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            except kfp_server_api.ApiException as error:
                reason = " ".join(str(error.body or error.reason).split())[:300]
                raise UserError(f"{self.address} refused the request ({error.status}): {reason}") from error
            except (HTTPError, OSError) as error:
                raise UserError(f"{self.address} does not respond: {' '.join(str(error).split())[:200]}") from error
            except (ValueError, RuntimeError) as error:
                raise UserError(f"{self.address}: {' '.join(str(error).split())[:300]}") from error
