"""What `nnclr doctor` finds wrong, it names."""

from importlib import metadata

from pipeline import doctor, provenance


def finding(name: str) -> doctor.Finding:
    return doctor._finding(name, {"Packages": doctor._packages, "Presets": doctor._presets}[name])


def test_other_versions_than_the_locked_ones_are_named(tmp_path, monkeypatch):
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        f"# header\nnumpy=={metadata.version('numpy')} \\\n    --hash=sha256:0\nrich==0.1\nno-such-thing==2\n"
    )
    monkeypatch.setattr(provenance, "lock_file", lambda: lock)
    found = finding("Packages")
    assert not found.fine
    assert f"rich {metadata.version('rich')} instead of 0.1, no-such-thing missing instead of 2" in found.detail
    assert "numpy" not in found.detail
    lock.write_text(f"numpy=={metadata.version('numpy')} \\\n")
    assert finding("Packages") == doctor.Finding(
        "Packages", True, f"nnclr {metadata.version('nnclr')}, 1 dependencies as locked"
    )


def test_an_installation_without_its_lock_is_not_fine(monkeypatch):
    monkeypatch.setattr(provenance, "lock_file", lambda: None)
    assert not finding("Packages").fine


def test_a_preset_that_does_not_load_is_named(monkeypatch):
    from pipeline import config

    assert "stl10-resnet18" in finding("Presets").detail
    monkeypatch.setattr(config, "presets", lambda: {"broken": "trainer: {epoch: 1}"})
    found = finding("Presets")
    assert not found.fine
    assert "trainer.epoch" in found.detail
