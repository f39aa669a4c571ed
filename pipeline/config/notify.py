"""The settings of notifications: who is told how a run ended."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.config.kubeflow import EnvironmentName
from trainer.config import StrictModel
from trainer.settings_tree import SECRET_VALUE

Event = Literal["released", "challenger", "not_promoted", "unchanged", "refused", "nothing_new", "failed", "anomaly"]
#: The event that accompanies another one: DataGate found something wrong with the images.
ANOMALY: Event = "anomaly"


def _no_address(value: Any) -> Any:
    if isinstance(value, str) and "://" in value:
        raise PydanticCustomError(
            SECRET_VALUE,
            "the value is an address, which often contains a secret. Put it into an environment variable, and name the "
            "variable here, for instance NOTIFY_URL",
        )
    return value


class NotifySettings(StrictModel):
    """A receiver of notifications, which gets one JSON object at the end of a run. See docs/notifications.md."""

    on: Annotated[tuple[Event, ...], Field(min_length=1)] = Field(
        ("released", "challenger", "not_promoted", "refused", "failed", "anomaly"),
        description="Ends of a run that the receiver is told of: `released`; `challenger`, a blessed encoder waits for "
        "approval; `not_promoted`, a blessed encoder did not become the champion, because the champion changed during "
        "the run; `unchanged`, the registry had the encoder already; `refused`, the encoder is not blessed; "
        "`nothing_new`; `failed`; and `anomaly`, whatever the end, if a check of the images found something.",
    )
    url_from: Annotated[EnvironmentName, BeforeValidator(_no_address)] | None = Field(
        None,
        description="Environment variable that contains the address to which the object is posted by HTTP or HTTPS. "
        "The address itself is not a setting, because it often contains a secret.",
    )
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None,
        description="Program and its arguments, as a list. It is started without a shell and reads the object from "
        "stdin.",
    )

    @model_validator(mode="after")
    def _one_receiver(self) -> "NotifySettings":
        if (self.url_from is None) == (self.command is None):
            raise ValueError("name either url_from or command; for several receivers, add an entry for each")
        return self
