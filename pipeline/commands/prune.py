"""The command `nnclr prune`."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.commands.options import JsonOption, WorkdirOption
from pipeline.local.workdir import DEFAULT_WORKDIR, Workdir
from pipeline.terminal import output
from pipeline.terminal.screen import write_line
from trainer.errors import SettingsError


def prune(
    keep_runs: Annotated[
        int, typer.Option(min=0, help="Number of newest runs to keep, with everything they refer to.")
    ] = 5,
    older_than: Annotated[
        float | None,
        typer.Option(min=0, max=36500, metavar="DAYS", help="Delete only what belongs to runs older than this."),
    ] = None,
    directory: WorkdirOption = DEFAULT_WORKDIR,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the folders. Without this option they are only listed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the artifacts, logs and checkpoints of old runs.

    Keep everything that a kept run produced or used, and the model registry (see nnclr models prune). Later runs
    recompute results that are no longer in the cache.

    **Examples**

    `nnclr prune` (list what would be deleted)

    `nnclr prune --keep-runs 3 --older-than 30 --delete`
    """
    from datetime import timedelta

    from rich.filesize import decimal

    from pipeline.terminal import imports

    workdir = Workdir(directory)
    if not workdir.root.is_dir():
        raise SettingsError(f"The working directory {directory} does not exist: choose another with --workdir DIR.")
    with workdir.locked(), output.captured():
        with imports.gc_paused():
            from pipeline.local import ending, metadata, pruning

            metadata.prepare(workdir)
            limit = None if older_than is None else timedelta(days=older_than)
            chosen, notes = pruning.find_disposable(workdir, keep_runs, limit)
        problems = pruning.delete(chosen) if delete else []
        if delete and workdir.overview.exists():
            problems += ending.keep(workdir, None)
    size = sum(folder.bytes for folder in chosen)
    if as_json:
        output.print_json({"chosen": chosen, "bytes": size, "deleted": delete, "notes": notes + problems})
        return
    for folder in chosen:
        print(f"{decimal(folder.bytes):>10}  {folder.kind:10}  {folder.path}")
    for sentence in notes + problems:
        write_line(Console(), escape(sentence))
    kinds = [f"{sum(folder.kind == kind for folder in chosen)} {kind}s" for kind in pruning.KINDS]
    print(f"{'Deleted' if delete else 'Would delete'} {decimal(size)}: {', '.join(kinds)}.")
    if chosen and not delete:
        print("Next: run the same command with --delete")
