"""The reference of all settings, the JSON schema, and the files that are generated from them."""

from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from pipeline import config, settings_reference
from pipeline.config.notify import NotifySettings
from pipeline.settings_reference import generated
from trainer import settings_tree
from trainer.config.networks import PretrainedSettings
from trainer.errors import SettingsError

PRESETS = Path(config.__file__).parents[1] / "presets"
STARTER = Path(config.__file__).with_name("starter.yaml")


@pytest.fixture(scope="module")
def known() -> dict[str, settings_reference.Setting]:
    return {setting.name: setting for section in settings_reference.sections() for setting in section.settings}


# Sections that may be null.
_NULLABLE = ("evaluator.fine_tuning.", "evaluator.references.supervised.", "data.split.")


def is_inner(name: str) -> bool:
    """Whether the setting belongs to an element of a list or mapping, or to a section that may be null."""
    return "[]" in name or ".NAME." in name or name.startswith(_NULLABLE)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = settings_reference.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_setting_and_every_section_has_a_description(known):
    assert [name for name, setting in known.items() if not setting.description] == []
    assert [section.name for section in settings_reference.sections() if not section.description] == []


def test_every_field_of_every_model_is_listed(known):
    def names(model: type[BaseModel], path: str) -> set[str]:
        found = set()
        for name, field in model.model_fields.items():
            annotation = field.annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                found |= names(annotation, f"{path}{name}.")
            else:
                found.add(f"{path}{name}")
        return found

    inner = {name for name in known if is_inner(name)}
    assert known.keys() - inner == names(config.Settings, "")
    in_lists = {"key", "operator", "value", "effect", *PretrainedSettings.model_fields, *NotifySettings.model_fields}
    assert {name.rpartition(".")[2] for name in inner if "[]" in name} == in_lists


def test_the_names_of_steps_are_listed(known):
    steps = known["kubeflow.steps"]
    assert (steps.type, steps.default) == ("mapping of sections", {})
    assert steps.allowed.startswith("keys are `ChampionResolver`, ")
    assert steps.allowed.endswith(" or `Trainer`")


@pytest.mark.parametrize(
    ("name", "kind", "allowed", "default"),
    [
        ("data.source", "string or null", "", None),
        ("data.image_size", "integer", "31 to 1024", 96),
        ("trainer.optimizer.name", "string", "`adam`, `adamw`, `sgd` or `lars`", "adam"),
        ("trainer.optimizer.learning_rate", "number", "above 0", 0.001),
        ("trainer.optimizer.momentum", "number", "at least 0, below 1", 0.9),
        ("trainer.encoder.width", "integer, list of integers or null", "above 0, at most 65536", None),
        ("trainer.augmentation.blur", "number or list of 2 numbers", "0 to 1", [0.0, 0.0]),
        ("evaluator.neighbours", "list of integers", "above 0; at least 1 element", [20, 200]),
        ("evaluator.fine_tuning", "section or null", "", None),
        ("evaluator.fine_tuning.epochs", "integer", "above 0", 10),
        ("kubeflow.steps.NAME.gpus", "integer", "at least 0", 0),
        ("kubeflow.steps.NAME.tolerations", "list of sections", "", []),
        ("kubeflow.steps.NAME.tolerations[].operator", "string", "`Equal` or `Exists`", "Equal"),
        ("kubeflow.environment", "mapping of strings", "keys match `^[A-Za-z_][A-Za-z0-9_]*$`", {}),
        ("beam", "mapping of strings, integers, numbers or booleans", "", {"runner": "FnApiRunner"}),
        (
            *("trainer.watch.every", "string or number"),
            *("for instance `10 epochs`, `500 steps` or `1e6 examples`", "1 epochs"),
        ),
    ],
)
def test_a_setting_has_its_type_allowed_values_and_default(name, kind, allowed, default, known):
    setting = known[name]
    assert (setting.type, setting.allowed, setting.default) == (kind, allowed, default)


def test_two_sections_of_one_model_have_the_defaults_of_their_paths(known):
    assert known["trainer.augmentation.crop_scale"].default == [0.2, 1.0]
    assert known["trainer.online_probe.augmentation.crop_scale"].default == [0.5, 1.0]
    # The default of the field itself is 0: this one comes from the augmentation preset.
    assert known["trainer.augmentation.brightness"].default == 0.5


def test_defaults_are_what_is_loaded_without_settings(known):
    tree = config.load().model_dump(mode="json")
    for name, setting in known.items():
        if not is_inner(name):
            value = tree
            for part in name.split("."):
                value = value[part]
            assert setting.default == value, name


def test_a_prefix_selects_settings_and_a_wrong_one_names_similar_ones():
    (section,) = settings_reference.matching("trainer.optimizer")
    assert section.name == "trainer.optimizer"
    assert [setting.name for setting in settings_reference.matching("data.image")[0].settings] == ["data.image_size"]
    (section,) = settings_reference.matching("kubeflow.steps.Trainer.gp")
    assert [setting.name for setting in section.settings] == ["kubeflow.steps.NAME.gpus"]
    sections = settings_reference.matching("kubeflow.steps.Trainer")
    assert [section.name for section in sections] == ["kubeflow.steps.NAME", "kubeflow.steps.NAME.tolerations[]"]
    for prefix, hint in (
        ("trainer.epocs", r"Did you mean trainer\.epochs\?"),
        ("optimiser", r"Did you mean trainer\.optimizer\?"),
        ("model_name", r"Did you mean registry\.model_name\?"),
        ("zzz", r"nnclr settings lists all of them\."),
    ):
        with pytest.raises(SettingsError, match=hint):
            settings_reference.matching(prefix)


def test_differences_of_a_preset_are_what_it_changes(known):
    changed = settings_reference.differences("paper")
    assert changed["trainer.optimizer.name"] == "lars"
    assert changed["trainer.optimizer.scale_to"] == 256
    # The preset gives it with the value that it has by default.
    assert "trainer.temperature" not in changed
    assert not any(name.startswith(("evaluator.", "kubeflow.", "beam")) for name in changed)
    # From an augmentation preset that the preset names.
    assert changed["trainer.augmentation.blur"] == [1.0, 0.1]


def test_every_preset_and_the_starter_are_valid_by_the_schema(validator):
    files = [*PRESETS.glob("*.yaml"), STARTER]
    assert len(files) > 5
    for file in files:
        assert list(validator.iter_errors(yaml.safe_load(file.read_text()))) == [], file


@pytest.mark.parametrize(
    "override",
    [
        *(
            "trainer.watch.every=10",
            "trainer.watch.every=0.5",
            "trainer.watch.every=500 steps",
            "trainer.duration=null",
        ),
        *(
            "trainer.augmentation.blur=0.5",
            "trainer.augmentation.blur=[0.5, 0.1]",
            "trainer.encoder.width=[1, 2, 3, 4]",
        ),
        *("data.settled_minutes=null", 'data.span="007"', "beam.runner=FlinkRunner", "beam.save=true"),
        *("evaluator.fine_tuning={}", "evaluator.fine_tuning.epochs=3", "kubeflow.steps.Trainer.gpus=1"),
        *("kubeflow.steps={Trainer: {tolerations: [{key: gpu}]}}", "kubeflow.pod_labels={example.com/team: a, b: ''}"),
        *("kubeflow.environment.MLFLOW_TRACKING_URI=x", "kubeflow.secrets={name: {key: VARIABLE}}"),
        'kubeflow.resources.cpu="2"',
    ],
)
def test_what_is_allowed_is_valid_by_the_schema(override, validator):
    config.load(overrides=[override])
    assert list(validator.iter_errors(settings_tree.overridden({}, [override]))) == []


@pytest.mark.parametrize(
    "override",
    [
        *("trainer.epoch=1", "trainr={}", "trainer.epochs=0", "trainer.epochs=two", "trainer.devices=tpu"),
        *("trainer.watch.every=3 weeks", "trainer.augmentation.blur=2", "trainer.augmentation.blur=[1, 1, 1]"),
        *("data.image_size=8", "evaluator.neighbours=[]", "kubeflow.steps.Trianer.gpus=1"),
        *("kubeflow.steps.Trainer.tolerations=[{effect: Never}]", "kubeflow.steps.Trainer.gpu=1"),
        *("kubeflow.pod_labels={a b: c}", "kubeflow.pod_labels={a: b c}"),
        *("kubeflow.environment={1a: b}", "kubeflow.scratch=much", "beam=[]", "trainer.projection={units: []}"),
    ],
)
def test_what_is_not_allowed_is_invalid_by_the_schema(override, validator):
    with pytest.raises(SettingsError):
        config.load(overrides=[override])
    assert list(validator.iter_errors(settings_tree.overridden({}, [override])))


def test_settings_files_name_a_schema_that_lies_beside_them():
    for file in PRESETS.glob("*.yaml"):
        assert file.read_text().startswith(config.SCHEMA_LINE), file
    assert STARTER.read_text().startswith(config.SCHEMA_LINE)
    assert (PRESETS / config.SCHEMA_FILE).is_file()
    assert f"# yaml-language-server: $schema={config.SCHEMA_FILE}\n" == config.SCHEMA_LINE
    for text in config.presets().values():
        assert "yaml-language-server" not in text
    assert "://" not in (PRESETS / config.SCHEMA_FILE).read_text().replace("gs://", "").replace("s3://", "").replace(
        "minio://", ""
    )


def test_generated_files_are_up_to_date():
    for file, text in generated.files().items():
        assert file.read_text(encoding="utf-8") == text, f"{file.name} is out of date: run `make reference`"


def test_the_document_has_a_row_for_each_setting_below_its_introduction(known):
    text = generated.DOCUMENT.read_text()
    introduction, _, table = text.partition("<!-- Generated")
    assert "--config FILE" in introduction
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(known)
    # Four cells: no bar within a cell ends it.
    assert {row.replace("\\|", "").count("|") for row in rows} == {5}
