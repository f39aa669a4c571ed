"""Errors that the user can fix, and the exit codes of all commands.

The message of each error is one sentence that says what is wrong and what to do. It is shown without a stack trace.

    UserError            1   any other reason
    ├── SettingsError    2   settings, arguments
    ├── DataError        3   images, labels
    ├── DamagedVersion   5   files of a registered version   (components.model_registry)
    ├── TrainingError    6   divergence, collapse
    ├── Busy             8   working directory in use        (pipeline.local.workdir)
    ├── DiskFull        74   no space left
    └── Stopped         75   SIGTERM
"""

DONE, FAILED, WRONG_USAGE, BAD_DATA, NOT_BLESSED, DAMAGED = 0, 1, 2, 3, 4, 5
UNTRAINABLE, BUSY, DISK_FULL, STOPPED, INTERRUPTED = 6, 8, 74, 75, 130

#: The meaning of each exit code, for `--help` and for the documentation.
EXIT_CODES = {
    DONE: "done: released, registered as challenger, registered but not promoted because the champion had changed, "
    "blessed and unchanged, or nothing new",
    FAILED: "failed for a reason that is not listed here",
    WRONG_USAGE: "wrong usage or settings",
    BAD_DATA: "the images or their labels cannot be used",
    NOT_BLESSED: "the encoder is not blessed",
    DAMAGED: "a registered version is damaged",
    UNTRAINABLE: "the training diverged or collapsed",
    BUSY: "another run uses the working directory",
    DISK_FULL: "no space is left on the disk; the same command goes on when there is room",
    STOPPED: "stopped by SIGTERM; the same command goes on",
    INTERRUPTED: "interrupted by Ctrl-C; the same command goes on",
}


def exit_codes(*codes: int) -> str:
    """Returns Markdown for a command's help that explains the given exit codes, or all exit codes if none is given."""
    return "**Exit codes**: " + "; ".join(f"{code} {EXIT_CODES[code]}" for code in codes or EXIT_CODES) + "."


class UserError(Exception):
    """Something that the user provided cannot be used. The command exits with `exit_code`."""

    exit_code = FAILED


class SettingsError(UserError):
    """A setting or an argument is unknown, malformed or contradicts another one."""

    exit_code = WRONG_USAGE


class DataError(UserError):
    """The images or their labels cannot be used as they are."""

    exit_code = BAD_DATA


class TrainingError(UserError):
    """The training diverged or collapsed, so that it makes no sense to continue it."""

    exit_code = UNTRAINABLE


class DiskFull(UserError):
    """There is no space left on the disk."""

    exit_code = DISK_FULL


class Stopped(UserError):
    """The training was asked to stop and saved its state. The same command continues it."""

    exit_code = STOPPED
