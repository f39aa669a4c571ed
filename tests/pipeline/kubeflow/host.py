"""A host of Kubeflow Pipelines as its v2beta1 API describes it, for as much of it as runs need.

It refuses what a real one refuses: unknown fields, experiments and pipelines that are not there, two versions of one
name, specs of another schema, parameters that the pipeline does not have, and missing ones without a default. Each run
goes through `states`, one a look.
"""

import email
import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

_CREATED = "2026-11-24T03:00:00Z"
# V2beta1Run, of what a client may set.
_RUN_FIELDS = {
    *("display_name", "description", "experiment_id", "pipeline_spec", "pipeline_version_reference", "runtime_config"),
    "service_account",
}
# V2beta1RecurringRun, of what a client may set.
_RECURRING_RUN_FIELDS = _RUN_FIELDS | {"max_concurrency", "trigger", "mode", "no_catchup"}
# Six fields of Go's robfig/cron: no L, no #, and a week from 0 to 6.
_NUMBER, _NAME = r"(\d+)", r"([a-zA-Z]{3})"
_PART = rf"(\*|{_NUMBER}(-{_NUMBER})?|{_NAME}(-{_NAME})?)(/\d+)?"
_FIELD = rf"(\?|{_PART}(,{_PART})*)"
_CRON = re.compile(rf"{_FIELD}( {_FIELD}){{4}} (?P<weekday>{_FIELD})")


class Refused(Exception):
    """A request that the API does not allow."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass
class KubeflowHost:
    """State of the host.

    Attributes:
        states: The states that each run goes through, each with the states of the run's tasks.
        ignores_service_accounts: Whether recurring runs get the default service account, as up to version 2.16.
        health: The answer of the API server to a request for its health.
        url: The address of the host.
        token: The token that requests must carry, except the request for the health; empty if none is needed.
        pipelines: The ids of the pipelines, by name.
        versions: The versions of the pipelines, by id. The field `text` holds the uploaded file.
        runs: The runs as they were created, by id.
        recurring_runs: The recurring runs as they were created, by id.
        experiments: The ids of the experiments, by name.
    """

    states: list[tuple[str, dict[str, str]]]
    ignores_service_accounts: bool = False
    health: dict[str, Any] = field(default_factory=lambda: {"multi_user": False, "tag_name": "2.16.1"})
    url: str = ""
    token: str = ""
    pipelines: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring_runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, str] = field(default_factory=dict)
    _looks: dict[str, int] = field(default_factory=dict)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """What the API answers."""
        match method, path.removeprefix("/apis/v2beta1/").split("/"):
            case "GET", ["healthz"]:
                return self.health
            case _, ["pipelines", *rest]:
                return self._answer_pipelines(method, rest, query, body)
            case _, ["experiments", *rest]:
                return self._answer_experiments(method, rest, query, body)
            case _, ["runs", *rest]:
                return self._answer_runs(method, rest, query, body)
            case _, ["recurringruns", *rest]:
                return self._answer_recurring(method, rest, query, body)
        raise Refused(404, f"{method} {path} not found")

    def _answer_pipelines(self, method: str, rest: list[str], query: dict[str, list[str]], body: Any) -> Any:
        match method, rest:
            case "GET", []:
                known = [self._pipeline(name) for name in self.pipelines if name == _wanted(query)]
                return {"pipelines": known} if known else {}
            case "POST", []:
                if body["display_name"] in self.pipelines:
                    raise Refused(409, f"the pipeline {body['display_name']} already exists")
                self.pipelines[body["display_name"]] = str(uuid.uuid4())
                return self._pipeline(body["display_name"])
            case "GET", [pipeline_id, "versions"]:
                known = [self.versions[key] for key in self.versions if self._is_version(key, pipeline_id, query)]
                return {"pipeline_versions": [_without_text(version) for version in known]} if known else {}
            case "POST", ["upload_version"]:
                return self._upload_version(query["pipelineid"][0], query["name"][0], query["description"][0], body)
        raise Refused(404, f"{method} pipelines {rest} not found")

    def _upload_version(self, pipeline_id: str, name: str, description: str, text: str) -> dict[str, Any]:
        if pipeline_id not in self.pipelines.values():
            raise Refused(400, f"pipeline {pipeline_id} not found")
        if any(
            (found["pipeline_id"], found["display_name"]) == (pipeline_id, name) for found in self.versions.values()
        ):
            raise Refused(409, f"the version {name} already exists")
        _spec(text)
        version = {
            **{"pipeline_id": pipeline_id, "pipeline_version_id": str(uuid.uuid4()), "display_name": name},
            **{"description": description, "created_at": _CREATED, "text": text},
        }
        self.versions[version["pipeline_version_id"]] = version
        return _without_text(version)

    def _is_version(self, version_id: str, pipeline_id: str, query: dict[str, list[str]]) -> bool:
        version = self.versions[version_id]
        return (version["pipeline_id"], version["display_name"]) == (pipeline_id, _wanted(query))

    def _pipeline(self, name: str) -> dict[str, str]:
        return {"pipeline_id": self.pipelines[name], "display_name": name, "created_at": _CREATED}

    def _answer_experiments(self, method: str, rest: list[str], query: dict[str, list[str]], body: Any) -> Any:
        match method, rest:
            case "GET", []:
                return {"experiments": [self._experiment(name) for name in self.experiments if name == _wanted(query)]}
            case "POST", []:
                self.experiments.setdefault(body["display_name"], str(uuid.uuid4()))
                return self._experiment(body["display_name"])
        raise Refused(404, f"{method} experiments {rest} not found")

    def _answer_runs(self, method: str, rest: list[str], query: dict[str, list[str]], body: Any) -> Any:
        match method, rest:
            case "POST", []:
                return self._create(body)
            case "GET", []:
                wanted = query.get("experiment_id", [None])[0]
                known = [run for run in self.runs.values() if wanted in (None, run["experiment_id"])]
                return {"runs": [self._seen(run) for run in reversed(known)], "total_size": len(known)}
            case "GET", [run_id] if run_id in self.runs:
                self._looks[run_id] += 1
                return self._seen(self.runs[run_id])
        raise Refused(404, f"{method} runs {rest} not found")

    def _answer_recurring(self, method: str, rest: list[str], query: dict[str, list[str]], body: Any) -> Any:
        match method, rest:
            case "POST", []:
                return self._create_recurring(body)
            case "GET", []:
                # Two a page, so that clients must turn it.
                start = int(query.get("page_token", ["0"])[0] or 0)
                known = list(reversed(self.recurring_runs.values()))
                following = str(start + 2) if start + 2 < len(known) else ""
                return {"recurringRuns": known[start : start + 2], "next_page_token": following}
            case "POST", [action] if action.partition(":")[0] in self.recurring_runs:
                run_id, _, what = action.partition(":")
                self.recurring_runs[run_id]["status"] = {"enable": "ENABLED", "disable": "DISABLED"}[what]
                return {}
            case "DELETE", [run_id] if run_id in self.recurring_runs:
                del self.recurring_runs[run_id]
                return {}
        raise Refused(404, f"{method} recurringruns {rest} not found")

    def _create_recurring(self, body: dict[str, Any]) -> dict[str, Any]:
        self._require_allowed(body, _RECURRING_RUN_FIELDS)
        # An int64 is a string in JSON; protobuf takes numbers as well.
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise Refused(400, "the max concurrency must be between 1 and 10")
        expression = body["trigger"]["cron_schedule"]["cron"]
        match = _CRON.fullmatch(expression)
        if not match or any(int(day) > 6 for day in re.findall(r"(?<!/)\d+", match["weekday"])):
            raise Refused(400, f"the cron expression {expression} is invalid")
        status = {"ENABLE": "ENABLED", "DISABLE": "DISABLED"}[body["mode"]]
        if self.ignores_service_accounts or not body.get("service_account"):
            body = body | {"service_account": "pipeline-runner"}
        made = body | {"recurring_run_id": str(uuid.uuid4()), "created_at": _CREATED, "status": status}
        self.recurring_runs[made["recurring_run_id"]] = made
        return made

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        self._require_allowed(body, _RUN_FIELDS)
        run = body | {"run_id": str(uuid.uuid4()), "created_at": _CREATED}
        self.runs[run["run_id"]], self._looks[run["run_id"]] = run, -1
        return self._seen(run)

    def _require_allowed(self, body: dict[str, Any], fields: set[str]) -> None:
        unknown = body.keys() - fields
        if unknown:
            raise Refused(400, f"unknown fields {unknown}")
        if body["experiment_id"] not in self.experiments.values():
            raise Refused(404, f"experiment {body['experiment_id']} not found")
        wanted = body["pipeline_version_reference"]
        version = self.versions.get(wanted["pipeline_version_id"])
        if not version or version["pipeline_id"] != wanted["pipeline_id"]:
            raise Refused(404, f"pipeline version {wanted} not found")
        declared = _spec(version["text"]).root.input_definitions.parameters
        given = body.get("runtime_config", {}).get("parameters", {})
        unknown_settings = body.get("runtime_config", {}).keys() - {"parameters", "pipeline_root"}
        if unknown_settings:
            raise Refused(400, f"unknown fields {unknown_settings}")
        for name in given:
            if name not in declared:
                raise Refused(400, f"parameter {name} not found in the pipeline")
        for name, parameter in declared.items():
            if name not in given and not parameter.HasField("default_value") and not parameter.is_optional:
                raise Refused(400, f"parameter {name} is required")

    def _seen(self, run: dict[str, Any]) -> dict[str, Any]:
        look = self._looks[run["run_id"]]
        if look < 0:
            return run
        state, tasks = self.states[min(look, len(self.states) - 1)]
        details = [{"display_name": name, "state": value, "task_id": name} for name, value in tasks.items()]
        return run | {"state": state, "run_details": {"task_details": details}}

    def _experiment(self, name: str) -> dict[str, str]:
        return {"experiment_id": self.experiments[name], "display_name": name, "created_at": _CREATED}


def _wanted(query: dict[str, list[str]]) -> str:
    """The name for which a list is filtered."""
    (predicate,) = json.loads(query["filter"][0])["predicates"]
    # Protobuf's JSON takes the number of an enumeration's value as well as its name, and names in both spellings.
    assert predicate["operation"] in ("EQUALS", 1), predicate
    assert predicate["key"] in ("display_name", "name"), predicate
    return predicate.get("stringValue", predicate.get("string_value"))


def _without_text(version: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in version.items() if name != "text"}


def _spec(text: str) -> pipeline_spec_pb2.PipelineSpec:
    spec = json_format.ParseDict(next(yaml.safe_load_all(text)), pipeline_spec_pb2.PipelineSpec())
    if spec.schema_version != "2.1.0":
        raise Refused(400, f"schema {spec.schema_version}")
    return spec


def _body(content_type: str, content: bytes) -> Any:
    """The body of a request: JSON, or the text of the one file in a form."""
    if not content_type.startswith("multipart/"):
        return json.loads(content)
    form = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + content)
    (part,) = form.get_payload()
    return part.get_payload(decode=True).decode()


@contextmanager
def running(host: KubeflowHost) -> Iterator[KubeflowHost]:
    """Serves the API on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            address = urlparse(self.path)
            length = int(self.headers.get("Content-Length", 0))
            body = _body(self.headers["Content-Type"], self.rfile.read(length)) if length else None
            try:
                if (
                    host.token
                    and not address.path.endswith("/healthz")
                    and self.headers.get("Authorization") != f"Bearer {host.token}"
                ):
                    raise Refused(401, "who are you?")
                self._send(200, host.answer(self.command, address.path, parse_qs(address.query), body))
            except Refused as refused:
                self._send(refused.status, {"error": str(refused), "code": 3})

        do_GET = do_POST = do_DELETE = _serve

        def _send(self, status: int, content: Any) -> None:
            payload = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
