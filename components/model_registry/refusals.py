"""What MLflow and Cloud Storage refuse, as one sentence."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from components.model_registry.credentials import without_credentials
from trainer import progress
from trainer.errors import SettingsError, UserError

# Characters of what a library says that a person reads.
_LONGEST = 300


class RegistryError(UserError):
    """The registry, or the storage of its files, refused or does not answer."""


@contextmanager
def understandable(place: str) -> Iterator[None]:
    """Turns the errors of a registry and of the storage of its files into a `RegistryError`.

    Both clients retry what may pass (503, a reset, a slow answer) before they raise.

    Args:
        place: whose errors they are, in words.
    """
    from alembic.util import CommandError
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with progress.waiting_for(f"{place}, which is given up after a minute or two"):
            yield
    except MlflowException as error:
        told = without_credentials(" ".join(error.message.split()))[:_LONGEST]
        raise RegistryError(f"{place} refused: {told}") from error
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{place} needs the Python package {error.name}, which is not installed: install it, or name another "
            "server."
        ) from error
    except (SQLAlchemyError, sqlite3.Error, CommandError) as error:
        told = without_credentials(str(error).strip().splitlines()[0])[:_LONGEST]
        advice = " Another version of MLflow made it: see mlflow db upgrade." if isinstance(error, CommandError) else ""
        raise RegistryError(f"The database of {place} cannot be used: {told}.{advice}") from error
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        told = without_credentials(" ".join(str(error).split()))[:_LONGEST]
        raise RegistryError(
            f"The storage of {place} failed and kept failing: {told}. Nothing half was registered; run it again when "
            "the storage answers."
        ) from error
