"""Cron expressions of five fields, for schedules on this machine and on Kubeflow Pipelines."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from trainer.errors import SettingsError


def validated(expression: str) -> str:
    """Returns the expression with single spaces between its fields.

    Raises:
        SettingsError: If the expression does not have five fields, or if one of them is invalid.
    """
    fields = expression.split()
    if len(fields) != 5:
        raise SettingsError(
            f"--cron {expression!r} has {len(fields)} fields, not 5: minute, hour, day of month, month, day of week; "
            'for instance "0 3 * * 1" for Mondays at 03:00.'
        )
    try:
        CronSim(expression, datetime(2000, 1, 1))
    # A number of thousands of digits is a ValueError.
    except (CronSimError, ValueError) as error:
        raise SettingsError(
            f"--cron {expression[:200]!r} is invalid: {str(error).partition('; use sys.')[0]}."
        ) from error
    return " ".join(fields)


def next_time(expression: str, after: datetime) -> datetime:
    """Returns the first scheduled time after `after`, in its time zone.

    Changes to and from summer time are handled as in Debian's cron.
    """
    return next(CronSim(expression, after))


def in_words(expression: str) -> str:
    """Describes an expression in English, for example `At 03:00 on Monday`."""
    return CronSim(expression, datetime(2000, 1, 1)).explain()


def to_kubeflow(expression: str) -> str:
    """Converts an expression to the six fields, seconds first, of Kubeflow Pipelines (Go's robfig/cron).

    Raises:
        SettingsError: If the expression is invalid or uses syntax that Kubeflow Pipelines does not support.
    """
    fields = validated(expression).split()
    if re.search("[#L]", f"{fields[2]} {fields[4]}".upper()):
        raise SettingsError(f"--cron {expression!r}: Kubeflow Pipelines supports neither L nor #.")
    if re.search(r"\b0*7\b", fields[4]):
        # Kubeflow Pipelines accepts 0 for Sunday, but not 7.
        days = CronSim(expression, datetime(2000, 1, 1)).weekdays
        fields[4] = ",".join(sorted({str(day % 7) for day in days if isinstance(day, int)}))
    return " ".join(["0", *fields])


def from_kubeflow(expression: str) -> str:
    """Converts an expression of Kubeflow Pipelines to five fields if its seconds are 0; returns others unchanged."""
    return expression.removeprefix("0 ") if len(expression.split()) == 6 else expression


def time_zone(name: str) -> ZoneInfo:
    """Returns the time zone of an IANA name such as `Europe/Berlin`.

    Raises:
        SettingsError: If no time zone has this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SettingsError(f"--time-zone {name!r} is unknown; a valid name is, for example, Europe/Berlin.") from error
