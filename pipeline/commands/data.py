"""The command `nnclr data`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.terminal.screen import Screen
from trainer.errors import SettingsError

app = typer.Typer(help="Put data sets on disk.", no_args_is_help=True)


@app.command("sample")
def data_sample(out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to create.")]) -> None:
    """Draw the embedded sample: 8,500 coloured digits on photographic textures, in STL-10's layout.

    **Example**: `nnclr data sample sample && nnclr run --preset sample --data sample`
    """
    from pipeline.data import sample
    from trainer.progress import Reporter

    if out.exists() and any(out.iterdir()) if out.is_dir() else out.exists():
        raise SettingsError(f"{out} already exists: choose a new folder.")
    with Screen(Console(stderr=True)):
        reporter = Reporter("Drawing", sum(sample.COUNTS.values()))
        sample.write_sample(out, reporter.advance)
    counts = ", ".join(f"{count:,} {split}" for split, count in sample.COUNTS.items())
    print(f"Wrote {counts} images to {out}.")
    print(f"Next: nnclr run --preset sample --data {out}")


@app.command("stl10")
def data_stl10(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to download into.")],
    url: Annotated[str | None, typer.Option(help="Address of a mirror of stl10_binary.tar.gz.")] = None,
) -> None:
    """Download the official STL-10 archive (2.6 GB), or resume an interrupted download.

    Verify its size and its SHA-256. The archive need not be unpacked for nnclr run.

    **Example**: `nnclr data stl10 data && nnclr run --preset stl10-convnet --data data/stl10_binary.tar.gz`
    """
    import dataclasses

    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from pipeline.data import stl10_download

    archive = stl10_download.STL10 if url is None else dataclasses.replace(stl10_download.STL10, url=url)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=archive.size)
        file = stl10_download.download(archive, out, lambda done: progress.update(task, completed=done))
    print(f"Downloaded and verified {file}.")
    print(f"Next: nnclr run --preset stl10-convnet --data {file}")
