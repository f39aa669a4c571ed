"""What MLflow and Cloud Storage refuse, as one sentence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from trainer.errors import UserError

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


@contextmanager
def understandable(place: str) -> Iterator[None]:
    """Turns the errors of a registry and of the storage of its files into a `UserError`.

    Both clients retry what may pass (503, a reset, a slow answer) before they raise.

    Args:
        place: whose errors they are, in words.
    """
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except MlflowException as error:
        raise UserError(f"{place} refused: {_without_credentials(error.message)}") from error
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        raise UserError(
            f"The storage of {place} failed and kept failing: {_without_credentials(str(error))[:300]}. "
            "Nothing half was registered; run it again when the storage answers."
        ) from error


def _without_credentials(text: str) -> str:
    """On one line, and without the user and password that a server's address may hold."""
    return _CREDENTIALS.sub("", " ".join(text.split()))
