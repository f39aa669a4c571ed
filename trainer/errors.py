"""Errors that are the user's to mend: one sentence naming what is wrong and what to do, never a stack trace."""


class UserError(Exception):
    """Something the user gave cannot be used. `exit_code` is what the command line ends with."""

    exit_code = 1


class SettingsError(UserError):
    """A setting or an argument is unknown, malformed or contradicts another one."""

    exit_code = 2


class DataError(UserError):
    """The images or their labels cannot be used as they are."""

    exit_code = 3


class TrainingError(UserError):
    """Training went wrong in a way that more of it will not mend: it diverged or collapsed."""

    exit_code = 6


class Stopped(UserError):
    """Training was asked to stop, and saved where it was: the same command goes on from there."""

    exit_code = 75
