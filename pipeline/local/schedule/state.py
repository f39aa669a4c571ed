"""The state of a schedule in `schedule.json`, which is also the health file of its process."""

import os
import time
from pathlib import Path

from pydantic import BaseModel, ValidationError

from pipeline.local.workdir import Workdir
from trainer import aside

WAITING, RUNNING, ENDED = "waiting", "running", "ended"
HEARTBEAT_SECONDS = 15.0
# A process that has not written its state for this long is considered dead.
STALE_SECONDS = 120.0


class LastRun(BaseModel, frozen=True):
    """The last completed tick of a schedule.

    Attributes:
        at: The start of the tick in ISO 8601.
        outcome: The outcome of the tick; see `TickResult`.
        detail: The reason for the outcome.
        exit_code: The exit code of the last process.
        tries: The number of processes that were started.
    """

    at: str
    outcome: str
    detail: str
    exit_code: int
    tries: int


class ScheduleState(BaseModel, frozen=True):
    """The state of a schedule. Every field has a default, so that files of earlier versions can be read.

    Attributes:
        cron: The cron expression.
        time_zone: The name of the time zone of the cron expression.
        pid: The id of the process.
        state: `waiting`, `running` or `ended`.
        next: The next scheduled time in ISO 8601, if the schedule is waiting.
        since: The start of the current or last tick in ISO 8601.
        last: The last completed tick.
        unfinished: Whether the last tick was interrupted and has to be resumed.
    """

    cron: str = ""
    time_zone: str = ""
    pid: int = 0
    state: str = ENDED
    next: str | None = None
    since: str | None = None
    last: LastRun | None = None
    unfinished: bool = False


def read(workdir: Workdir) -> ScheduleState | None:
    """Reads the state of the schedule of a working directory; returns None if there is none."""
    try:
        return ScheduleState.model_validate_json(workdir.schedule.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        # The file is damaged. Repeating a completed tick costs little, because its components are cached.
        return ScheduleState(unfinished=True)


def write(workdir: Workdir, state: ScheduleState) -> None:
    """Replaces the state of the schedule of a working directory.

    Raises:
        OSError: If the file cannot be written.
    """
    unfinished = Path(aside.beside(str(workdir.schedule)))
    with aside.discarded_on_failure(unfinished.unlink):
        with open(unfinished, "w", encoding="utf-8") as file:
            file.write(state.model_dump_json(indent=2))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(workdir.schedule)


def age_seconds(workdir: Workdir) -> float:
    """Returns the time since the state was last written, in seconds."""
    return time.time() - workdir.schedule.stat().st_mtime
