"""Errors of MLflow, of its database and of the storage of its files, each as one sentence."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from components.model_registry.credentials import without_credentials
from trainer import progress
from trainer.errors import SettingsError, UserError

# The longest part of a library's message that is shown, in characters.
_LONGEST_QUOTE = 300


class RegistryError(UserError):
    """The registry, or the storage of its files, refuses a request or does not answer."""


@contextmanager
def readable_errors(registry: str) -> Iterator[None]:
    """Turns the errors of a registry, of its database and of the storage of its files into a `RegistryError`.

    The clients of MLflow and of the storage retry temporary failures (503, a reset connection, a slow answer) before
    they raise.

    Args:
        registry: The registry's description, with which the sentences begin.

    Raises:
        RegistryError: If the registry, its database or the storage of its files fails.
        SettingsError: If a Python package that the registry's address needs is not installed.
    """
    from alembic.util import CommandError
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with progress.waiting_for(f"{registry}, which is given up after a minute or two"):
            yield
    except MlflowException as error:
        raise RegistryError(f"{registry} refused: {_quoted(error.message)}") from error
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{registry} needs the Python package {error.name}, which is not installed: install it, or name another "
            "server."
        ) from error
    except (SQLAlchemyError, sqlite3.Error, CommandError) as error:
        first_line = str(error).strip().splitlines()[0]
        advice = " Another version of MLflow made it: see mlflow db upgrade." if isinstance(error, CommandError) else ""
        raise RegistryError(f"The database of {registry} cannot be used: {_quoted(first_line)}.{advice}") from error
    except (GoogleAPIError, GoogleAuthError, RequestException, BotoCoreError, Boto3Error, ClientError) as error:
        raise RegistryError(
            f"The storage of {registry} failed and kept failing: {_quoted(str(error))}. No incomplete version was "
            "registered: run the command again when the storage answers."
        ) from error


@contextmanager
def ignoring(error_code: str) -> Iterator[None]:
    """Ignores the MLflow error of this code, which means that another process has already done the same.

    Args:
        error_code: The name of the code, such as `RESOURCE_ALREADY_EXISTS`.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != error_code:
            raise


def _quoted(message: str) -> str:
    """Returns the beginning of a library's message, on one line and without credentials."""
    return without_credentials(" ".join(message.split()))[:_LONGEST_QUOTE]
