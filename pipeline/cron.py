"""Cron expressions of five fields, here and on Kubeflow Pipelines."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from trainer.errors import SettingsError


def checked(expression: str) -> str:
    """The expression, with single blanks.

    Raises:
        SettingsError: it has not five fields, or one of them is wrong.
    """
    fields = expression.split()
    if len(fields) != 5:
        raise SettingsError(
            f"--cron {expression!r} has {len(fields)} fields, not 5: minute, hour, day of month, month, day of week; "
            'for instance "0 3 * * 1" for Mondays at three.'
        )
    try:
        CronSim(expression, datetime(2000, 1, 1))
    except CronSimError as error:
        raise SettingsError(f"--cron {expression!r} cannot be understood: {error}.") from error
    return " ".join(fields)


def following(expression: str, moment: datetime) -> datetime:
    """The first time after `moment`, in its time zone; where summer time begins or ends, as Debian's cron does it."""
    return next(CronSim(expression, moment))


def in_words(expression: str) -> str:
    """`At 03:00 on Monday`."""
    return CronSim(expression, datetime(2000, 1, 1)).explain()


def for_kubeflow(expression: str) -> str:
    """The same with six fields, seconds first, as Kubeflow Pipelines (Go's robfig/cron) wants it.

    Raises:
        SettingsError: it uses what is unknown there.
    """
    fields = checked(expression).split()
    if re.search("[#L]", f"{fields[2]} {fields[4]}".upper()):
        raise SettingsError(f"--cron {expression!r}: Kubeflow Pipelines knows neither L nor #.")
    if re.search(r"\b0*7\b", fields[4]):
        # Sunday is 0 there, never 7.
        days = CronSim(expression, datetime(2000, 1, 1)).weekdays
        fields[4] = ",".join(sorted({str(day % 7) for day in days if isinstance(day, int)}))
    return " ".join(["0", *fields])


def from_kubeflow(expression: str) -> str:
    """Back to five fields, where its seconds are 0."""
    return expression.removeprefix("0 ") if len(expression.split()) == 6 else expression


def time_zone(name: str) -> ZoneInfo:
    """A time zone.

    Raises:
        SettingsError: there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SettingsError(f"--time-zone {name!r} is unknown; a name looks like Europe/Berlin.") from error
