"""What a file of embeddings says about itself: which model and which images they come from."""

from typing import Any

from components.artifact_files import Content


class Model(Content):
    """The encoder that computed embeddings.

    Attributes:
        name: Name of the registered model, of the network or of the folder.
        version: Number of the registered version; None if the encoder is not from the registry.
        sha256: The sha256 of the registered version's manifest, or a hash of the network's files or weights.
    """

    name: str
    version: int | None = None
    sha256: str

    @property
    def title(self) -> str:
        """The encoder's name, version and hash, for messages."""
        version = "" if self.version is None else f" version {self.version}"
        return f"{self.name}{version} (sha256 {self.sha256[:12]})"


class Description(Content):
    """The metadata of a file of embeddings.

    Attributes:
        nnclr: Version of nnclr.
        model: The encoder.
        image_size: Height and width of the images that the encoder takes, in pixels.
        source: Path or URI of the images.
        fingerprint: Fingerprint of the source's contents.
        settings: The settings of ingest that decide what the encoder is given.
        class_names: Names of the classes, in the order of the labels.
        count: Number of embeddings.
        length: Number of values of an embedding.
    """

    nnclr: str
    model: Model
    image_size: tuple[int, int]
    source: str
    fingerprint: str
    settings: dict[str, Any]
    class_names: tuple[str, ...] = ()
    count: int = 0
    length: int = 0

    def differences(self, other: "Description") -> list[str]:
        """Returns a clause for each reason why the embeddings of two descriptions must not be mixed."""
        found = []
        if self.model.sha256 != other.model.sha256:
            found.append(f"of {self.model.title}, not of {other.model.title}")
        if self.source != other.source:
            found.append(f"of the images in {self.source}, not in {other.source}")
        elif self.fingerprint != other.fingerprint:
            found.append(f"of images in {self.source} that have changed since")
        changed = sorted(name for name, value in self.settings.items() if other.settings.get(name) != value)
        if changed:
            found.append(f"made with other values of {', '.join(f'data.{name}' for name in changed)}")
        if self.nnclr != other.nnclr:
            found.append(f"made by nnclr {self.nnclr}, not {other.nnclr}")
        return found
