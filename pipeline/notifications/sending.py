"""Sends notifications. A receiver that is down or slow costs some seconds at the end of a run, and nothing else."""

import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable

from pipeline.config.notify import NotifySettings
from pipeline.notifications.notice import Notice
from trainer.errors import SettingsError

#: Seconds that a receiver has to connect and between two parts of its answer, and that it has in all.
_PAUSE_SECONDS, _TOTAL_SECONDS = 5.0, 10.0


def require_usable(receivers: Iterable[NotifySettings]) -> None:
    """Checks before a run that its notifications can be sent: the variables hold addresses, the programs exist.

    Raises:
        SettingsError: If one of them cannot be sent. The message contains no address.
    """
    for number, receiver in enumerate(receivers):
        if receiver.url_from is not None:
            address = os.environ.get(receiver.url_from)
            if not address:
                raise SettingsError(
                    f"notify.{number}.url_from names the environment variable {receiver.url_from}, which is not set: "
                    "set it to the address of the receiver."
                )
            if not address.startswith(("http://", "https://")):
                raise SettingsError(
                    f"notify.{number}.url_from names the environment variable {receiver.url_from}, whose value begins "
                    "neither with http:// nor with https://: set it to the address of the receiver."
                )
        elif receiver.command and shutil.which(receiver.command[0]) is None:
            raise SettingsError(
                f"notify.{number}.command: there is no program {receiver.command[0]!r}. Name a program and its "
                "arguments as a list, for instance [python3, tell.py]; there is no shell."
            )


def send(receivers: Iterable[NotifySettings], notice: Notice) -> list[str]:
    """Tells all receivers whom the notice concerns, at the same time.

    Returns:
        A sentence for each receiver that could not be told. It contains no address.
    """
    concerned = [receiver for receiver in receivers if notice.concerns(receiver)]
    content = json.dumps(notice.model_dump(mode="json")).encode()
    problems: dict[int, str | None] = {}

    def tell(number: int, receiver: NotifySettings) -> None:
        problems[number] = _problem(receiver, content)

    # A receiver that answers a byte at a time never meets httpx's time limits: its thread is left alone, and does not
    # keep the process from ending.
    threads = [
        threading.Thread(target=tell, args=(number, receiver), daemon=True) for number, receiver in enumerate(concerned)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _TOTAL_SECONDS + 1
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = f"it did not end within {_TOTAL_SECONDS:.0f} seconds"
    found = [(receiver, problems.get(number, late)) for number, receiver in enumerate(concerned)]
    return [
        f"{_name(receiver)} could not be told of the run's end: {problem}." for receiver, problem in found if problem
    ]


def _name(receiver: NotifySettings) -> str:
    if receiver.url_from is not None:
        return f"The receiver at the address in {receiver.url_from}"
    assert receiver.command is not None
    return f"The command {receiver.command[0]!r}"


def _problem(receiver: NotifySettings, content: bytes) -> str | None:
    """Tells one receiver; returns why that was not possible."""
    if receiver.url_from is not None:
        return _post(os.environ.get(receiver.url_from, ""), content)
    assert receiver.command is not None
    return _run(receiver.command, content)


def _post(address: str, content: bytes) -> str | None:
    import httpx

    # At the level INFO, httpx logs the whole address.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        answer = httpx.post(
            address, content=content, headers={"Content-Type": "application/json"}, timeout=_PAUSE_SECONDS
        )
    # The variable may hold anything, and the messages of some errors contain the address.
    except Exception as error:
        return f"the request failed ({type(error).__name__})"
    return None if answer.is_success else f"it answered with status {answer.status_code}"


def _run(command: tuple[str, ...], content: bytes) -> str | None:
    try:
        # In a session of its own, so that all of its processes can be ended. Its stderr is that of nnclr; its stdout is
        # not, where `nnclr run --json` prints the result.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        return f"it cannot be started ({error.strerror})"
    try:
        process.communicate(content, timeout=_TOTAL_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"it did not end within {_TOTAL_SECONDS:.0f} seconds"
    return f"it ended with exit code {process.returncode}" if process.returncode else None
