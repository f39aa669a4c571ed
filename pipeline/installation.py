"""The installed packages `pipeline`, `components` and `trainer`, and whether another project has replaced one."""

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
