"""The installed packages `pipeline`, `components` and `trainer`, and whether another project has replaced one."""

import sys
from importlib import metadata

_PROJECT = "nnclr"
#: The packages that nnclr brings.
PACKAGES = ("pipeline", "components", "trainer")


def replaced_packages() -> list[str]:
    """A sentence for each installed project that brings a package of the same name as one of nnclr's."""
    owners = metadata.packages_distributions()
    return [
        f"The project {owner} brings a package `{package}` too, which replaces nnclr's. Install nnclr into an "
        "environment of its own, or uninstall both and install nnclr again."
        for package in PACKAGES
        for owner in sorted(set(owners.get(package, ())) - {_PROJECT})
    ]


def main() -> None:
    """The command `nnclr`: says so where one of its packages is another project's, instead of an import's traceback."""
    try:
        from pipeline import cli
    except ImportError:
        sentences = replaced_packages()
        if not sentences:
            raise
        sys.exit("\n".join(f"Error: {sentence}" for sentence in sentences))
    cli.main()
