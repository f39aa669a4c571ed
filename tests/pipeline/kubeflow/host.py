"""A host of Kubeflow Pipelines as its v2beta1 API describes it, for as much of it as runs need.

It refuses what a real one refuses: unknown fields, experiments that are not there, specs of another schema, parameters
that the pipeline does not have, and missing ones without a default. Each run goes through `states`, one a look.
"""

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
        states: of each run, one after the other; with each the states of its tasks.
        ignores_service_accounts: whether recurring runs get the default service account, as up to version 2.16.
        runs: by id, as they were created.
        recurring_runs: the same.
        token: that requests must carry, if any, but for the one that asks whether the host is well.
    """

    states: list[tuple[str, dict[str, str]]]
    ignores_service_accounts: bool = False
    url: str = ""
    token: str = ""
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring_runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, str] = field(default_factory=dict)
    _looks: dict[str, int] = field(default_factory=dict)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """What the API answers."""
        match method, path.removeprefix("/apis/v2beta1/").split("/"):
            case "GET", ["healthz"]:
                return {"multi_user": False}
            case _, ["experiments", *rest]:
                return self._answer_experiments(method, rest, query, body)
            case _, ["runs", *rest]:
                return self._answer_runs(method, rest, query, body)
            case _, ["recurringruns", *rest]:
                return self._answer_recurring(method, rest, query, body)
        raise Refused(404, f"{method} {path} not found")

    def _answer_experiments(self, method: str, rest: list[str], query: dict[str, list[str]], body: Any) -> Any:
        match method, rest:
            case "GET", []:
                wanted = json.loads(query["filter"][0])["predicates"][0]
                value = wanted.get("stringValue", wanted.get("string_value"))
                return {"experiments": [self._experiment(name) for name in self.experiments if name == value]}
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
        document = body["pipeline_spec"]
        spec = json_format.ParseDict(document.get("pipeline_spec", document), pipeline_spec_pb2.PipelineSpec())
        if spec.schema_version != "2.1.0":
            raise Refused(400, f"schema {spec.schema_version}")
        declared = spec.root.input_definitions.parameters
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


@contextmanager
def running(host: KubeflowHost) -> Iterator[KubeflowHost]:
    """Serves the API on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            address = urlparse(self.path)
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
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
