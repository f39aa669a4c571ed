"""A component's output folders are empty when it starts, whatever an earlier attempt left in them."""

from tfx.types import standard_artifacts

from components import outputs
from components.image_example_gen import artifact as examples_artifact
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.executor import Executor
from components.image_example_gen.fingerprint import fingerprint
from components.image_example_gen.sources.opening import open_source


def artifact(kind, uri: str):
    instance = kind()
    instance.uri = uri
    return instance


def test_files_and_folders_are_deleted_and_the_output_folder_stays(tmp_path):
    for name in ("BLESSED", "Split-train/data-00001-of-00002", ".hidden"):
        (tmp_path / "1" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "1" / name).write_text("old")
    missing = artifact(standard_artifacts.Model, str(tmp_path / "missing"))
    blessing = artifact(standard_artifacts.ModelBlessing, str(tmp_path / "1"))
    outputs.empty({"blessing": [blessing], "model": [missing]})
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert list((tmp_path / "1").iterdir()) == []


def test_shards_of_an_earlier_attempt_are_deleted(stl10_directory, tmp_path):
    examples = artifact(standard_artifacts.Examples, str(tmp_path / "examples"))
    stale = tmp_path / "examples" / "Split-unlabelled" / "data_tfrecord-00007-of-00008.gz"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of another try")
    properties = {
        "source": str(stl10_directory),
        "fingerprint": fingerprint(open_source(str(stl10_directory))),
        "settings": IngestSettings().model_dump_json(),
    }
    Executor().Do({}, {examples_artifact.EXAMPLES: [examples]}, properties | {"labelled_only": 0})
    assert not stale.exists()
    assert examples_artifact.read(examples.uri).counts["unlabelled"] == 30
