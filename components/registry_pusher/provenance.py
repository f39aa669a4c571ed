"""Where a released version comes from."""

from components.artifact_files import Content


class CodeVersion(Content):
    """The code that made a version.

    Attributes:
        nnclr_version: Version of nnclr.
        git_commit: Commit of nnclr's repository, with `+changes` if the work tree differed from it.
        lock_sha256: SHA-256 of `requirements.lock`.
    """

    nnclr_version: str
    git_commit: str
    lock_sha256: str


class Parents(Content):
    """What a version descends from.

    Attributes:
        warm_start: Where its initial weights came from: a registered version or a folder.
        compared_with: Name and version of the champion that it was compared with; None if none could be compared.
    """

    warm_start: str | None = None
    compared_with: str | None = None


class Provenance(CodeVersion):
    """The content of `provenance.json`, which travels with a version.

    Attributes:
        pipeline_run: Id of the run that made the version.
        data_fingerprint: Fingerprint of the images that the encoder was pretrained on.
        labelled_fingerprint: Fingerprint of the labelled images.
        parents: What the version descends from.
    """

    pipeline_run: str
    data_fingerprint: str
    labelled_fingerprint: str
    parents: Parents
