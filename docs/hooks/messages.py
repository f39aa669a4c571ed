"""A hook of MkDocs: writes the tables of all messages with their remedies into the page troubleshooting.md."""

from catalogue import Message, messages, remedies
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

_PLACE = "<!-- The built site lists all messages here. -->"
_COMMANDS = "Commands, settings and the working directory"
_NETWORKS = "Encoders and pretrained networks"
_REGISTRY = "The model registry"
# The heading of the messages of the modules whose path begins so; the longest beginning counts.
_HEADINGS = {
    "pipeline/": _COMMANDS,
    "trainer/settings_tree.py": _COMMANDS,
    "trainer/storage.py": _COMMANDS,
    "trainer/failures.py": _COMMANDS,
    "components/image_example_gen/": "Images",
    "components/data_": "Images",
    "pipeline/data/": "Images",
    "trainer/": "Training",
    "trainer/encoders/": _NETWORKS,
    "trainer/keras_networks.py": _NETWORKS,
    "trainer/pretrained.py": _NETWORKS,
    "components/": "Evaluation and embeddings",
    "components/champion_resolver/": _REGISTRY,
    "components/model_registry/": _REGISTRY,
    "components/registry_pusher/": _REGISTRY,
    "pipeline/doctor.py": "The installation",
    "pipeline/engine/": "Beam on other machines",
    "pipeline/kubeflow/": "Kubeflow Pipelines",
}


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replaces the comment in troubleshooting.md."""
    if page.file.src_uri != "troubleshooting.md":
        return markdown
    if _PLACE not in markdown:
        raise PluginError(f"troubleshooting.md lacks the line {_PLACE}")
    return markdown.replace(_PLACE, _tables())


def _tables() -> str:
    known = remedies()
    by_heading: dict[str, dict[Message, None]] = {heading: {} for heading in _HEADINGS.values()}
    for message in messages():
        start = max((start for start in _HEADINGS if message.file.startswith(start)), key=len)
        # Some messages are those of several modules.
        by_heading[_HEADINGS[start]][message._replace(file="")] = None
    lines = []
    for heading, found in by_heading.items():
        lines += [f"### {heading}", "", "| message | exit code |", "|---|---|"]
        for message in sorted(found, key=lambda message: message.text.lstrip("… :")):
            remedy = known.get(message.text)
            cell = f"`{message.text}`".replace("|", "\\|") + (f"<br>{remedy}" if remedy else "")
            lines.append(f"| {cell} | {'' if message.exit_code is None else message.exit_code} |")
        lines.append("")
    return "\n".join(lines)
