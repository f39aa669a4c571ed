"""Searches of MLflow's client, which return their results in pages."""

from collections.abc import Callable
from typing import Any


def all_pages(search: Callable[..., Any], **arguments: Any) -> list[Any]:
    """Returns the results of all pages of a search.

    Args:
        search: A search method of MLflow's client, which takes a `page_token`.
        arguments: The search's other arguments.
    """
    results, token = [], None
    while True:
        page = search(page_token=token, **arguments)
        results += page
        token = page.token
        if not token:
            return results
