"""A component's output folders are empty when it starts, whatever an earlier try left there."""

import pytest
from tfx.types import standard_artifacts

from components import outputs
from components.image_example_gen.executor import EXAMPLES, Executor, describe


def artifact(kind, uri: str):
    made = kind()
    made.uri = uri
    return made


@pytest.mark.parametrize("place", ["local", "gs"])
def test_files_and_folders_go_and_the_folder_stays(place, tmp_path, request):
    import tensorflow as tf

    uri = str(tmp_path / "1") if place == "local" else f"gs://{request.getfixturevalue('cloud_storage')}/1"
    for name in ("BLESSED", "Split-train/data-00001-of-00002", ".hidden"):
        tf.io.gfile.makedirs(f"{uri}/{name}".rpartition("/")[0])
        tf.io.gfile.GFile(f"{uri}/{name}", "w").write("old")
    missing = artifact(standard_artifacts.Model, f"{uri}-missing")
    outputs.empty({"blessing": [artifact(standard_artifacts.ModelBlessing, uri)], "model": [missing]})
    assert tf.io.gfile.glob(f"{uri}/*") == []
    assert not tf.io.gfile.exists(missing.uri)


def test_shards_of_an_earlier_try_are_not_ingested_again(stl10_directory, tmp_path):
    examples = artifact(standard_artifacts.Examples, str(tmp_path / "examples"))
    stale = tmp_path / "examples" / "Split-unlabelled" / "data_tfrecord-00007-of-00008.gz"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of another try")
    properties = {"source": str(stl10_directory), "fingerprint": "f00d", "image_size": 96, "max_rejected": 0}
    Executor().Do({}, {EXAMPLES: [examples]}, properties | {"labelled_only": 0})
    assert not stale.exists()
    assert describe(examples.uri)["counts"]["unlabelled"] == 30
