"""Users and passwords in the addresses of servers: whether a text holds any, and the text without them."""

import re

_USER_AND_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


def holds_credentials(text: str) -> bool:
    """Returns whether an address in the text names a user or a password."""
    return bool(_USER_AND_PASSWORD.search(text))


def without_credentials(text: str) -> str:
    """Returns the text with users and passwords removed from all addresses."""
    return _USER_AND_PASSWORD.sub("", text)
