"""The table of the encoders that nnclr has. Reading it loads no network, so that settings are checked at once."""

from importlib.metadata import EntryPoint
from typing import NamedTuple

#: The entry point group in which installed packages declare encoders of their own.
GROUP = "nnclr.encoders"


class BuiltIn(NamedTuple):
    """A built-in encoder.

    Attributes:
        builder: The `trainer.encoders.Builder`, as module:function.
        settings: The settings of its own in `trainer.encoder`; others are refused.
    """

    builder: str
    settings: frozenset[str] = frozenset()

    def entry_point(self, name: str) -> EntryPoint:
        """Returns the encoder as an installed package would declare it."""
        return EntryPoint(name, self.builder, GROUP)


BUILT_IN: dict[str, BuiltIn] = {
    "convnet": BuiltIn("trainer.encoders.convnet:build", frozenset({"width", "batch_norm", "pooling"})),
    "resnet18": BuiltIn("trainer.encoders.resnet:build_resnet18", frozenset({"width"})),
    "resnet50": BuiltIn("trainer.encoders.resnet:build_resnet50", frozenset({"width"})),
    "efficientnet-lite0": BuiltIn("trainer.encoders.efficientnet_lite:build_lite0"),
    "vit-tiny": BuiltIn("trainer.encoders.vit:build_tiny", frozenset({"patch"})),
    "vit-small": BuiltIn("trainer.encoders.vit:build_small", frozenset({"patch"})),
}
