"""`nnclr doctor` names the problems that it finds."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

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
    assert not found.ok
    assert f"rich {metadata.version('rich')} instead of 0.1, no-such-thing missing instead of 2" in found.detail
    assert "numpy" not in found.detail
    lock.write_text(f"numpy=={metadata.version('numpy')} \\\n")
    assert finding("Packages") == doctor.Finding(
        "Packages", True, f"nnclr {metadata.version('nnclr')}, 1 dependencies as in requirements.lock"
    )


def test_an_installation_without_its_lock_is_not_ok(monkeypatch):
    monkeypatch.setattr(provenance, "lock_file", lambda: None)
    assert not finding("Packages").ok


def test_a_preset_that_does_not_load_is_named(monkeypatch):
    from pipeline import config

    assert "stl10-resnet18" in finding("Presets").detail
    monkeypatch.setattr(config, "presets", lambda: {"broken": "trainer: {epoch: 1}"})
    found = finding("Presets")
    assert not found.ok
    assert "trainer.epoch" in found.detail


def test_a_project_that_replaces_one_of_the_packages_is_named(tmp_path, monkeypatch):
    """PyPI has a project `trainer`, which imports a package that this environment lacks."""
    other = tmp_path / "trainer-0.0.36.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: trainer\nVersion: 0.0.36\n")
    (other / "RECORD").write_text("trainer/__init__.py,,\ntrainer-0.0.36.dist-info/METADATA,,\n")
    (other / "top_level.txt").write_text("trainer\n")
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "__init__.py").write_text("import a_package_that_is_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = doctor._finding("Own packages", doctor._own_packages)
    assert not found.ok
    assert found.detail.startswith("The project trainer also installs a package `trainer`, which replaces nnclr's.")
    # The command cannot be loaded, and reports the reason instead of an ImportError.
    command, environment = [Path(sys.executable).with_name("nnclr")], os.environ | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert process.returncode == 1
    assert process.stderr == f"Error: {found.detail}\n"


def test_own_packages_are_ok_here():
    assert doctor._finding("Own packages", doctor._own_packages).ok


def test_the_build_of_tensorflow_without_gpus_counts_as_the_locked_one(tmp_path, monkeypatch):
    lock = tmp_path / "requirements.lock"
    lock.write_text("tensorflow==2.21.0 \\\n")
    installed = {"tensorflow-cpu": "2.21.0", "nnclr": "0.1.0"}
    monkeypatch.setattr(provenance, "lock_file", lambda: lock)
    monkeypatch.setattr(doctor, "_installed_version", installed.get)
    assert finding("Packages").ok
    installed["tensorflow-cpu"] = "2.20.0"
    assert "tensorflow 2.20.0 instead of 2.21.0" in finding("Packages").detail
