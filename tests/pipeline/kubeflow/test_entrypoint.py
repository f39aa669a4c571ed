"""What a failed step tells the cluster."""

import pytest

from pipeline.kubeflow import entrypoint


def test_the_reason_is_the_message_of_the_container(tmp_path, monkeypatch, capsys):
    message = tmp_path / "termination-log"
    monkeypatch.setattr(entrypoint, "_TERMINATION_LOG", message)
    for exists in (False, True):
        if exists:
            message.touch()
        with pytest.raises(SystemExit) as ended:
            entrypoint._fail("Trainer", "no\n  images " + "x" * 5000, 3)
        assert ended.value.code == 3
        assert capsys.readouterr().err.startswith("Error: Trainer failed: no images xxx")
        # Kubernetes creates the file: elsewhere, none appears.
        assert message.exists() == exists
    # Kubernetes keeps 4096 bytes.
    assert message.read_text().startswith("Error: Trainer failed: no images xxx")
    assert len(message.read_bytes()) <= 4096
