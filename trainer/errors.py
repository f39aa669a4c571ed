"""Errors that are the user's to mend, and the exit codes of every command.

Each is one sentence that names what is wrong and says what to do; none is shown with a stack trace.

    UserError            1   anything else
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

#: What each exit code means, for `--help` and for the documents.
EXIT_CODES = {
    DONE: "done: pushed, blessed and unchanged, or nothing new",
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
    """Markdown for a command's help that says what its exit codes mean: all of them, or those given."""
    return "**Exit codes**: " + "; ".join(f"{code} {EXIT_CODES[code]}" for code in codes or EXIT_CODES) + "."


class UserError(Exception):
    """Something the user gave cannot be used. `exit_code` is what the command line ends with."""

    exit_code = FAILED


class SettingsError(UserError):
    """A setting or an argument is unknown, malformed or contradicts another one."""

    exit_code = WRONG_USAGE


class DataError(UserError):
    """The images or their labels cannot be used as they are."""

    exit_code = BAD_DATA


class TrainingError(UserError):
    """Training went wrong in a way that more of it will not mend: it diverged or collapsed."""

    exit_code = UNTRAINABLE


class DiskFull(UserError):
    """There is no space left to write to."""

    exit_code = DISK_FULL


class Stopped(UserError):
    """Training was asked to stop, and saved where it was: the same command goes on from there."""

    exit_code = STOPPED
