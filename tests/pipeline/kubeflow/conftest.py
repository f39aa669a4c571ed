"""The object store of the imitated clusters."""

import pytest

from tests.pipeline.kubeflow.storage import Storage


@pytest.fixture(scope="session")
def storage(object_storage) -> Storage:
    """Buckets, for all clusters of this process: no two runs share keys."""
    return Storage(object_storage)
