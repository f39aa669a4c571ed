"""Settings: where they come from, and what is said of wrong ones."""

from operator import attrgetter

import pytest

from pipeline import config
from pipeline.config import beam_options
from trainer.errors import SettingsError


def test_every_preset_is_valid_and_says_what_it_is_for():
    presets = config.presets()
    stl10 = {"stl10-convnet", "stl10-resnet18", "stl10-resnet50"}
    assert set(presets) == {"sample", "keras-example", "paper", "pretrained"} | stl10
    for name, text in presets.items():
        assert text.startswith("# "), name
        assert config.load(name).name == f"nnclr-{name}"


def test_keras_example_has_the_examples_hyper_parameters():
    settings = config.load("keras-example")
    trainer = settings.trainer
    assert settings.data.image_size == 96
    assert (trainer.encoder.name, trainer.encoder.width, trainer.encoder.batch_norm) == ("convnet", 128, False)
    assert (trainer.neighbour, trainer.projection.model_dump()) == (
        "straight_through",
        {"units": [128, 128], "batch_norm": False},
    )
    assert (trainer.optimizer.name, trainer.optimizer.learning_rate) == ("adam", 1e-3)
    assert (trainer.temperature, trainer.support_set_size, trainer.epochs) == (0.1, 10_000, 25)
    assert (trainer.batch_size, trainer.online_probe.batch_size) == (500, 25)
    assert trainer.augmentation.crop_scale == (0.2, 1.0)
    assert (trainer.augmentation.brightness, trainer.augmentation.hue) == (0.5, 0.0)


def test_paper_has_the_papers_hyper_parameters():
    trainer = config.load("paper").trainer
    assert (trainer.neighbour, trainer.encoder.name, trainer.temperature) == ("paper", "resnet50", 0.1)
    assert trainer.projection.model_dump() == {"units": [2048, 2048, 256], "batch_norm": True}
    assert trainer.prediction.model_dump() == {"units": [4096, 256], "batch_norm": True}
    assert (trainer.support_set_size, trainer.batch_size, trainer.epochs) == (98_304, 4096, 1000)
    assert trainer.optimizer.peak(trainer.batch_size) == pytest.approx(0.3 * 16)


def test_simclr_is_one_setting_away_from_every_preset():
    for name in config.presets():
        assert config.load(name, overrides=["trainer.neighbour=none"]).trainer.neighbour == "none"


def test_set_beats_file_beats_preset(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("trainer: {epochs: 3, seed: 5}\n")
    settings = config.load("keras-example", file, ["trainer.epochs=2", "trainer.projection.units=[64, 32]"])
    assert (settings.trainer.epochs, settings.trainer.seed, settings.trainer.batch_size) == (2, 5, 500)
    assert settings.trainer.projection.units == [64, 32]


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
        ("gate.noise=maybe", r"gate\.noise: 'maybe' is not allowed\. Input should be 'off', 'warn' or 'fail'"),
        ("gate.min_brightness=0.96", r"gate: .*min_brightness must not be above max_brightness"),
        ("name=Bad_Name", r"name: 'Bad_Name' is not allowed"),
        ("registry.alias=v9", r"registry\.alias: 'v9' is not allowed\. MLflow reserves"),
        ("registry.alias=challenger", r"registry\.alias: 'challenger' is not allowed\. `challenger` marks an encoder"),
        ("registry.card.licence=''", r"registry\.card\.licence"),
        ("trainer.epochs", r"--set takes NAME=VALUE"),
        ("trainer.projection.units=[64", r"The value in --set 'trainer\.projection\.units=\[64' cannot be used"),
        ("trainer.epochs={[a]: 1}", r"trainer\.epochs=\{\[a\]: 1\}' cannot be used: a name must be a text"),
        ("trainer.epochs=2001-99-99", r"trainer\.epochs=2001-99-99' cannot be used: month must be in 1\.\.12"),
        ("trainer.epochs=!!bool maybe", r"trainer\.epochs=!!bool maybe' cannot be used: 'maybe'"),
        ("trainer.epochs=!!int ''", r"cannot be used: string index out of range"),
        pytest.param(f"trainer.epochs={'9' * 5_000}", r"has 5000 digits\.$", id="decimal digits"),
        pytest.param(
            f"trainer.precision=0x{'f' * 4_000}", r"precision: a number of thousands of digits is not", id="digits"
        ),
        pytest.param(f"trainer.epochs={'[' * 2_000}", r"cannot be used: it is nested too deeply", id="nested"),
        (
            "trainer.encoder.width=99999999999",
            r"width.*: 99999999999 is not allowed\. Input should be less than or equal to",
        ),
        ("trainer.projection.units=[128, 1000000]", r"units\.1: 1000000 is not allowed\. Input should be less than or"),
        ("trainer.optimizer.weight_decay=0.1", r"trainer\.optimizer: .* adam has no weight_decay: take adamw"),
        ("trainer.optimizer.warmup=3 weeks", r"warmup: '3 weeks' is not allowed\. Write a number and its unit"),
        ("trainer.encoder.name=vit", r"trainer\.encoder\.name: 'vit' is not allowed\. Choose one of convnet, resnet18"),
        (
            "trainer={neighbour: paper, prediction: {units: [9]}}",
            r"prediction\.units ends with 9 and projection\.units",
        ),
        ("trainer={top_k: 9, support_set_size: 5}", r"top_k is 9, and the support set has only 5 members"),
        ("trainer.multi_crop.scale=[0.5, 0.1]", r"scale must be two rising numbers above 0 up to 1"),
        ("trainer.multi_crop.size=0", "greater than 0"),
        ("trainer.accumulate=500", r"accumulate divides the batch of 500 images into 500 parts.* to at most 250"),
        ("trainer.multi_crop.views=2", r"multi_crop needs an encoder for images of any size: set encoder\.pooling"),
        (
            "trainer.progressive_resizing.size=0.5",
            r"progressive_resizing needs an encoder for images of any size: set enc",
        ),
        ("trainer.augmentation.preset=moco", r"'moco' is not allowed\. Input should be 'keras-example', 'simclr' or"),
        ("trainer.augmentation.blur=2", r"blur.*: 2.* is not allowed"),
        ("kubeflow.gpus=1", r"^kubeflow\.gpus: no such setting\. It is now kubeflow\.steps\.Trainer\.gpus\.$"),
        (
            "kubeflow.trainer_resources.cpu=8",
            r"It is now kubeflow\.steps\.Trainer\.cpu and kubeflow\.steps",
        ),
        ("kubeflow.node_selector={pool: gpu}", r"It is now kubeflow\.steps\.Trainer\.node_selector\.$"),
        ("kubeflow.tolerations=[]", r"It is now kubeflow\.steps\.Trainer\.tolerations\.$"),
        (
            "kubeflow.steps.Trianer.gpus=1",
            r"^kubeflow\.steps\.Trianer: 'Trianer' is not allowed\. The pipeline has no such step\. Its steps are "
            r"ChampionResolver, DataGate, .* StatisticsGen and Trainer\.$",
        ),
        (
            "kubeflow.steps.Trainer.gpu=1",
            r"kubeflow\.steps\.Trainer\.gpu: no such setting\. Did you mean kubeflow\.steps\.Trainer\.gpus\? Allowed: "
            r"kubeflow\.steps\.Trainer has cpu, gpus,",
        ),
        ("kubeflow.steps.Trainer.cpu=much", r"kubeflow\.steps\.Trainer\.cpu: 'much' is not allowed"),
        (
            "kubeflow.steps.Trainer.timeout_seconds=0",
            r"_seconds: 0 is not allowed\. Input should be greater than 0",
        ),
        (
            "kubeflow.steps.Trainer.timeout_seconds=4000000000",
            r"_seconds: 4000000000 is not allowed\. Input should be less than",
        ),
        (
            "kubeflow.steps.Trainer.node_selector={a b: c}",
            r"node_selector\.a b: 'a b' is not allowed\. A key in",
        ),
        (
            "kubeflow.steps.Trainer.tolerations=[{kee: x}]",
            r"tolerations\.0\.kee: no such setting\. Did you mean kubeflow\.steps\.Trainer\.tolerations\.0\.key\?",
        ),
        ("kubeflow.steps.Trainer.tolerations=[{value: x}]", r"A toleration of every key needs the operator Exists\.$"),
        (
            "kubeflow.steps.Trainer.tolerations=[{key: a, operator: Exists, value: b}]",
            r"The operator Exists takes no value\.$",
        ),
        (
            "evaluator.fine_tuning.epoch=3",
            r"Did you mean evaluator\.fine_tuning\.epochs\? Allowed: evaluator\.fine",
        ),
        ("kubeflow.environment={1a: b}", r"^kubeflow\.environment\.1a: '1a' is not allowed\."),
    ],
)
def test_wrong_setting_names_field_value_and_what_is_allowed(override, message):
    with pytest.raises(SettingsError, match=message):
        config.load(overrides=[override])


@pytest.mark.parametrize(
    "key",
    [
        *("a", "A-b_c.9", "x" * 63, "example.com/team", "a-1.b.c/X", f"{'a' * 253}/b", "app.kubernetes.io/name"),
        *("9", "pipelines"),
    ],
)
def test_keys_that_kubernetes_takes_are_taken(key):
    override = f"kubeflow.pod_labels={{{key!r}: v, other: ''}}"
    assert config.load(overrides=[override]).kubeflow.pod_labels == {key: "v", "other": ""}
    config.load(overrides=[f"kubeflow.pod_annotations={{{key!r}: 'Any text, {{}}!'}}"])


@pytest.mark.parametrize(
    "key",
    [
        *("", "-a", "a-", "a b", "ä", "x" * 64, "/a", "a/", "a/b/c", "Example.com/team", "a..b/c", "-a.b/c"),
        *("a_b/c", f"{'a' * 254}/b", "a\\n"),
    ],
)
@pytest.mark.parametrize("setting", ["pod_labels", "pod_annotations", "steps.Trainer.node_selector"])
def test_keys_that_kubernetes_refuses_are_refused(setting, key):
    with pytest.raises(SettingsError, match=r"is not allowed\. A key in Kubernetes is a name of at most 63 letters"):
        config.load(overrides=[f'kubeflow.{setting}={{"{key}": v}}'])


@pytest.mark.parametrize("value", ["-", "a b", "a/b", "x" * 64, "a_", "ä", "v\\n"])
@pytest.mark.parametrize("setting", ["pod_labels", "steps.Trainer.node_selector"])
def test_values_of_labels_that_kubernetes_refuses_are_refused(setting, value):
    with pytest.raises(SettingsError, match=rf"{setting}\.team: .* is not allowed\. A label's value is empty, or it"):
        config.load(overrides=[f'kubeflow.{setting}={{team: "{value}"}}'])


def test_a_label_that_yaml_reads_as_a_number_needs_quotes():
    with pytest.raises(SettingsError, match=r"pod_labels\.cost: 42 is not allowed\. Input should be a valid string"):
        config.load(overrides=["kubeflow.pod_labels={cost: 42}"])


@pytest.mark.parametrize("setting", ["pod_labels", "pod_annotations"])
@pytest.mark.parametrize(
    "key", ["workflows.argoproj.io/workflow", "pipelines.kubeflow.org/v2_component", "pipeline/runid"]
)
def test_labels_by_which_argo_and_kubeflow_find_pods_are_refused(setting, key):
    with pytest.raises(SettingsError, match=rf"by keys such as {key}: choose another key\.$"):
        config.load(overrides=[f"kubeflow.{setting}={{{key}: x}}"])


def test_a_step_of_which_one_value_is_given_keeps_its_other_defaults():
    cluster = config.load(overrides=["kubeflow.steps.Trainer.cpu=8", "kubeflow.resources.memory=1Gi"]).kubeflow
    assert (cluster.step("Trainer").cpu, cluster.step("Trainer").memory) == ("8", "16Gi")
    assert (cluster.step("DataGate").cpu, cluster.step("DataGate").memory) == ("2", "1Gi")


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
    with pytest.raises(SettingsError, match=r"list\.yaml contains no settings"):
        config.load(file=tmp_path / "list.yaml")


def test_tfx_packs_its_sources_only_for_workers_without_packages():
    """It leaves that out if an option says where workers find packages."""
    assert "--sdk_container_image=unused" in config.load().beam_pipeline_args()
    prepared = [
        *("{}", "{runner: direct}", "{runner: FlinkRunner, environment_type: LOOPBACK}"),
        *("{runner: PortableRunner, job_endpoint: 'h:1', environment_type: EXTERNAL, environment_config: 'h:2'}",),
    ]
    for options in prepared:
        assert "--sdk_container_image=unused" in config.load(overrides=[f"beam={options}"]).beam_pipeline_args()
    for options in ("{runner: DataflowRunner}", "{setup_file: setup.py}", "{sdk_container_image: mine}"):
        flags = config.load(overrides=[f"beam={options}"]).beam_pipeline_args()
        assert "--sdk_container_image=unused" not in flags


def test_beam_options_become_flags():
    settings = config.load(overrides=["beam.runner=FlinkRunner", "beam.flink_master=localhost:1", "beam.save=true"])
    assert settings.beam_pipeline_args() == [
        *("--beam_plugin=tfx", "--runner=FlinkRunner"),
        *("--flink_master=localhost:1", "--save"),
    ]


@pytest.mark.parametrize("runner", ["PortableRunner", "portable", "FlinkRunner", "spark"])
def test_a_job_server_that_is_named_is_used_and_checked_whatever_the_runner_is_called(runner):
    settings = config.load(overrides=[f"beam.runner={runner}", "beam.job_endpoint=localhost:8099"])
    assert f"--runner={beam_options.CHECKED_RUNNER}" in settings.beam_pipeline_args()


@pytest.mark.parametrize(
    ("options", "here"),
    [
        ("{runner: FnApiRunner}", True),
        ("{runner: direct}", True),
        ("{runner: apache_beam.runners.DirectRunner}", True),
        ("{runner: DataflowRunner}", False),
        ("{runner: PortableRunner, job_endpoint: 'flink:8099'}", False),
        ("{runner: FlinkRunner, job_endpoint: 'flink:8099', environment_type: EXTERNAL}", False),
        ("{runner: FlinkRunner, job_endpoint: 'flink:8099', environment_type: loopback}", True),
        ("{runner: PortableRunner, job_endpoint: embed, environment_type: LOOPBACK}", True),
        ("{runner: PortableRunner, job_endpoint: embed}", True),
        (
            "{runner: PortableRunner, job_endpoint: embed, environment_type: EXTERNAL, environment_config: 'a:1'}",
            False,
        ),
        (
            "{runner: PortableRunner, job_endpoint: embed, environment_type: EXTERNAL, "
            "environment_config: 'localhost:1'}",
            True,
        ),
    ],
)
def test_only_workers_on_other_machines_need_a_bucket(options, here):
    arguments = config.load(overrides=[f"beam={options}"]).beam_pipeline_args()
    assert beam_options.workers_are_here(arguments) == here


def test_a_span_is_a_day_as_yaml_reads_it():
    assert config.load(overrides=["data.span=2026-11-24"]).data.span == "2026-11-24"
    assert config.load(overrides=['data.span="007"']).data.span == "007"
    with pytest.raises(SettingsError, match=r"write it in quotes, '\"7\"'"):
        config.load(overrides=["data.span=7"])


def test_the_word_off_switches_a_check_off_although_yaml_reads_it_as_false(tmp_path):
    assert config.load(overrides=["gate.noise=off"]).gate.noise == "off"
    (tmp_path / "own.yaml").write_text("gate: {drift: off}")
    assert config.load(file=tmp_path / "own.yaml").gate.drift == "off"


def test_what_decides_on_a_release_changes_the_settings_fingerprint():
    plain = config.load().deciding()
    for other in (
        "trainer.epochs=3",
        "evaluator.accept_baseline_reset=true",
        "registry.alias=best",
        "registry.approval=manual",
        "registry.card.licence=MIT",
        "data.image_size=64",
    ):
        assert config.load(overrides=[other]).deciding() != plain
    for same in (
        "data.source=x",
        "kubeflow.steps.Trainer.gpus=2",
        "data.only_new=true",
        "gate.noise=off",
        "name=other",
    ):
        assert config.load(overrides=[same]).deciding() == plain


@pytest.mark.parametrize(
    ("override", "kept"),
    [
        ("kubeflow.resources.cpu=8", {"kubeflow.resources.memory": "8Gi"}),
        (
            "trainer.online_probe.augmentation.flip=false",
            {
                "trainer.online_probe.augmentation.crop_scale": (0.5, 1.0),
                "trainer.online_probe.augmentation.brightness": 0.3,
            },
        ),
        ("trainer.projection.batch_norm=true", {"trainer.projection.units": [128, 128]}),
        ("trainer.augmentation.flip=false", {"trainer.augmentation.brightness": 0.5}),
    ],
)
def test_a_section_of_which_one_value_is_given_keeps_its_other_defaults(override, kept):
    settings = config.load(overrides=[override])
    for path, value in kept.items():
        assert attrgetter(path)(settings) == value == attrgetter(path)(config.load())


def test_a_short_text_that_stands_for_a_value_of_any_size_is_refused_briefly(tmp_path):
    # Each list holds the one before it ten times: 10 to the power of 12 texts.
    lists = "".join(f"list{i}: &{i} [{', '.join([f'*{i - 1}'] * 10)}]\n" for i in range(1, 12))
    (tmp_path / "config.yaml").write_text(f"list0: &0 [{', '.join('x' * 10)}]\n{lists}trainer: {{epochs: *11}}\n")
    with pytest.raises(SettingsError, match=r"trainer\.epochs: \[\[\[\[\.\.\.\]") as caught:
        config.load(None, tmp_path / "config.yaml")
    assert len(str(caught.value)) < 10_000
