"""The installed packages `pipeline`, `components` and `trainer`, and whether another project has replaced one."""

from importlib import metadata

_PROJECT = "nnclr"
#: The top-level packages that nnclr installs.
PACKAGES = ("pipeline", "components", "trainer")


def replaced_packages() -> list[str]:
    """Returns a sentence for each installed project that installs a package of the same name as one of nnclr's."""
    owners = metadata.packages_distributions()
    return [
        f"The project {owner} also installs a package `{package}`, which replaces nnclr's. Install nnclr into an "
        "environment of its own, or uninstall both and install nnclr again."
        for package in PACKAGES
        for owner in sorted(set(owners.get(package, ())) - {_PROJECT})
    ]
