"""NNCLR pretraining on TensorFlow: data, augmentation, model, training loop and export.

`trainer.train` pretrains an encoder as `trainer.TrainerSettings` say, on the images of a `trainer.Job`.

Only `trainer.run_fn` knows TFX, and no module imports from `components` or `pipeline`.
"""

import importlib
from typing import Any

# Which module defines a name. Imported on first use, because TensorFlow takes seconds to import; and not by an import
# statement, because the pipeline takes every module that a component imports for code that the component runs.
_MODULES = {"Job": "trainer.loop", "TrainerSettings": "trainer.config", "train": "trainer.loop"}

__all__ = ["Job", "TrainerSettings", "train"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
