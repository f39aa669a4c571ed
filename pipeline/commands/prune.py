"""The command `nnclr prune`."""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.commands.options import JsonOption, WorkdirOption
from pipeline.local import workdir as workdirs
from pipeline.terminal import output
from pipeline.terminal.screen import write_line
from trainer.errors import SettingsError


def prune(
    keep_runs: Annotated[int, typer.Option(min=0, help="Keep the newest so many runs, with all they refer to.")] = 5,
    older_than: Annotated[
        float | None,
        typer.Option(min=0, max=36500, metavar="DAYS", help="Delete only what belongs to runs older than this."),
    ] = None,
    workdir: WorkdirOption = workdirs.DEFAULT,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; otherwise only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the artifacts, logs and checkpoints of old runs.

    What a kept run made or used stays, and so do the registry and its versions (see nnclr models prune). A run after it
    computes again what it cannot take from the cache any more.

    **Examples**

    `nnclr prune` (says what would go)

    `nnclr prune --keep-runs 3 --older-than 30 --delete`
    """
    from datetime import timedelta

    from rich.filesize import decimal

    from pipeline.terminal import imports

    place = workdirs.Workdir(workdir)
    if not place.root.is_dir():
        raise SettingsError(f"There is no working directory {workdir}: name it with --workdir DIR.")
    with place.locked(), tempfile.TemporaryDirectory() as aside, output.captured(Path(aside, "prune.log")):
        with imports.gc_paused():
            from pipeline.local import metadata, pruning

            metadata.prepare(place)
            limit = None if older_than is None else timedelta(days=older_than)
            found, notes = pruning.find(place, keep_runs, limit)
        problems = pruning.delete(found) if delete else []
    size = sum(one.size for one in found)
    if as_json:
        chosen = [{"path": str(one.path), "kind": one.kind, "bytes": one.size} for one in found]
        print(json.dumps({"chosen": chosen, "bytes": size, "deleted": delete, "notes": notes + problems}))
        return
    for one in found:
        print(f"{decimal(one.size):>10}  {one.kind:10}  {one.path}")
    for sentence in notes + problems:
        write_line(Console(), escape(sentence))
    kinds = [f"{sum(one.kind == kind for one in found)} {kind}s" for kind in pruning.KINDS]
    print(f"{'Deleted' if delete else 'Would delete'} {decimal(size)}: {', '.join(kinds)}.")
    if found and not delete:
        print("Next: the same command with --delete")
