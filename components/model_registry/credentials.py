"""Users and passwords in addresses: where one may stand, and where none may be shown."""

import re

_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")


def holds_credentials(text: str) -> bool:
    """Whether an address in a text names a user or a password."""
    return bool(_IN_ADDRESS.search(text))


def without_credentials(text: str) -> str:
    """The text without the users and passwords that addresses in it hold."""
    return _IN_ADDRESS.sub("", text)
