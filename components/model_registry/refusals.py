"""What MLflow and Cloud Storage refuse, as one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from components.model_registry.credentials import without_credentials
from trainer.errors import UserError


class RegistryError(UserError):
    """The registry, or the storage of its files, refused or does not answer."""


@contextmanager
def understandable(place: str) -> Iterator[None]:
    """Turns the errors of a registry and of the storage of its files into a `RegistryError`.

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
        raise RegistryError(f"{place} refused: {without_credentials(error.message)}") from error
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        told = without_credentials(" ".join(str(error).split()))[:300]
        raise RegistryError(
            f"The storage of {place} failed and kept failing: {told}. Nothing half was registered; run it again when "
            "the storage answers."
        ) from error
