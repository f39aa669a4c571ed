"""Every setting is explained in a sentence, and the names in JSON, which checkpoints depend on, stay as they are."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from trainer import checkpoints
from trainer.config import TrainerSettings


def fields(model: type[BaseModel], prefix: str = "trainer") -> Iterator[tuple[str, str | None]]:
    for name, field in model.model_fields.items():
        yield f"{prefix}.{name}", field.description
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}.{name}")


@pytest.mark.parametrize(("name", "description"), list(fields(TrainerSettings)))
def test_every_setting_is_explained_in_a_sentence(name, description):
    assert description is not None, name
    assert description[0].isupper(), name
    assert description.endswith("."), name
    assert len(description.split()) >= 3, name


def test_the_default_settings_keep_their_key():
    """A change of this key makes every unfinished training start anew, and every cached training run again."""
    assert checkpoints.key(TrainerSettings().model_dump_json()) == "e50ad9be4a9aca34"
