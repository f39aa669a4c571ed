"""What follows the end of a run on this machine: the record of a failure, the page of all runs, the notifications."""

import socket

from components.data_gate.artifact import RefusedData
from components.model_registry.pipeline_runs import FAILED
from pipeline.config import Settings
from pipeline.local import overview, summary
from pipeline.local.summary import Summary
from pipeline.local.workdir import Workdir
from pipeline.notifications.notice import Notice, event_of
from trainer import failures
from trainer.errors import FAILED as FAILED_CODE
from trainer.errors import Stopped


def failed(run_id: str, settings: Settings, error: BaseException) -> Summary | None:
    """Returns the summary of a run that failed; None if it was stopped, because it goes on later."""
    known = failures.as_user_error(error)
    if isinstance(error, KeyboardInterrupt) or isinstance(known, Stopped):
        return None
    return Summary(
        run_id=run_id,
        outcome=FAILED,
        source=settings.data.source,
        failure=sentence(error),
        anomalies=known.findings if isinstance(known, RefusedData) else (),
    )


def sentence(error: BaseException) -> str:
    """Returns why a run failed, on one line."""
    known = failures.as_user_error(error)
    if known:
        return " ".join(str(known).split())
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def is_retried(error: BaseException) -> bool:
    """Returns whether a schedule starts a run that failed so again, see `TickResult.retryable`."""
    known = failures.as_user_error(error)
    return known is None or known.exit_code == FAILED_CODE


def keep(workdir: Workdir, result: Summary | None) -> list[str]:
    """Writes the summary of a run that failed, and the page of all runs of a locked working directory.

    Args:
        workdir: The working directory.
        result: The summary of the run; None if the run was stopped.

    Returns:
        A sentence for each file that cannot be written, for instance because the disk is full.
    """
    try:
        if result and result.failure:
            summary.write(workdir.run(result.run_id), result)
        overview.write(workdir)
    # Whatever is wrong with the page, the run ends as it would without it.
    except Exception as error:
        return [f"The page of all runs {workdir.overview} cannot be written: {sentence(error).rstrip('.')}."]
    return []


def notice(settings: Settings, workdir: Workdir, result: Summary) -> Notice:
    """Returns what the receivers of notifications are told of a run."""
    figure = result.evaluation.main_figure if result.evaluation else None
    folder = workdir.run(result.run_id).resolve()
    report = folder / "report.html"
    return Notice(
        event=event_of(result.outcome),
        anomalies=result.anomalies,
        pipeline=settings.name,
        run_id=result.run_id,
        reason=result.reason,
        source=result.source,
        measure=figure.measure if figure else None,
        accuracy=figure.share if figure else None,
        interval=figure.interval if figure else None,
        version=result.registry.uri if result.registry else None,
        page=result.registry.page if result.registry else None,
        machine=socket.gethostname(),
        report=str(report) if report.exists() else None,
        log=str(folder / "run.log"),
    ).with_text()


def killed_notice(settings: Settings, workdir: Workdir, detail: str) -> Notice:
    """Returns what a schedule tells of a run whose process was killed, so that it could tell nobody.

    Args:
        settings: The settings of the schedule.
        workdir: The working directory.
        detail: What ended the process, a sentence.
    """
    return Notice(
        event="failed",
        pipeline=settings.name,
        reason=detail,
        source=settings.data.source,
        machine=socket.gethostname(),
        log=str(workdir.schedule_log.resolve()),
    ).with_text()
