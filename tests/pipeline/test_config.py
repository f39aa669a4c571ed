"""Settings: where they come from, and what is said of wrong ones."""

import pytest

from pipeline import config
from trainer.errors import SettingsError


def test_every_preset_is_valid_and_says_what_it_is_for():
    presets = config.presets()
    assert {"sample", "keras-example"} <= set(presets)
    for name, text in presets.items():
        assert text.startswith("# "), name
        assert config.load(name).name == f"nnclr-{name}"


def test_keras_example_has_the_examples_hyper_parameters():
    settings = config.load("keras-example")
    trainer = settings.trainer
    assert settings.data.image_size == 96
    assert (trainer.encoder.name, trainer.encoder.width, trainer.projection) == ("convnet", 128, [128, 128])
    assert (trainer.temperature, trainer.support_set_size, trainer.epochs) == (0.1, 10_000, 25)
    assert (trainer.batch_size, trainer.online_probe.batch_size) == (500, 25)
    assert trainer.augmentation.crop_scale == (0.2, 1.0)
    assert (trainer.augmentation.brightness, trainer.augmentation.hue) == (0.5, 0.0)


def test_set_beats_file_beats_preset(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("trainer: {epochs: 3, seed: 5}\n")
    settings = config.load("keras-example", file, ["trainer.epochs=2", "trainer.projection=[64, 32]"])
    assert (settings.trainer.epochs, settings.trainer.seed, settings.trainer.batch_size) == (2, 5, 500)
    assert settings.trainer.projection == [64, 32]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.epoch=2", r"trainer\.epoch: no such setting\. Did you mean trainer\.epochs\? Allowed: trainer has"),
        ("trainr.epochs=2", r"trainr: no such setting\. Did you mean trainer\? Allowed: there are beam, data"),
        ("trainer.epochs=two", r"trainer\.epochs: 'two' is not allowed\. Input should be a valid integer"),
        ("trainer.epochs=0", r"trainer\.epochs: 0 is not allowed\. Input should be greater than 0"),
        ("trainer.precision=half", r"trainer\.precision: 'half' .* 'auto', 'float32' or 'bfloat16'"),
        ("trainer.augmentation.crop_scale=[0.9, 0.1]", r"augmentation: .*crop_scale must be two rising numbers"),
        ("data.image_size=8", r"data\.image_size: 8 is not allowed\. Input should be greater than or equal to 31"),
        ("name=Bad_Name", r"name: 'Bad_Name' is not allowed"),
        ("registry.alias=v9", r"registry\.alias: 'v9' is not allowed\. MLflow keeps"),
        ("trainer.epochs", r"--set takes NAME=VALUE"),
        ("trainer.projection=[64", r"The value in --set trainer\.projection=\[64 is no YAML"),
    ],
)
def test_wrong_setting_names_field_value_and_what_is_allowed(override, message):
    with pytest.raises(SettingsError, match=message):
        config.load(overrides=[override])


def test_all_wrong_settings_are_told_at_once():
    with pytest.raises(SettingsError) as error:
        config.load(overrides=["trainer.epochs=0", "data.image_size=8"])
    assert len(str(error.value).splitlines()) == 2


def test_unknown_preset_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(SettingsError, match=r"no preset 'nope'; there are: .*sample"):
        config.load("nope")
    with pytest.raises(SettingsError, match=r"missing\.yaml cannot be read"):
        config.load(file=tmp_path / "missing.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(SettingsError, match=r"list\.yaml holds no settings"):
        config.load(file=tmp_path / "list.yaml")


def test_beam_options_become_flags():
    settings = config.load(overrides=["beam.runner=FlinkRunner", "beam.flink_master=localhost:1", "beam.save=true"])
    assert settings.beam_pipeline_args() == [
        *("--beam_plugin=tfx", "--runner=FlinkRunner"),
        *("--flink_master=localhost:1", "--save"),
    ]
