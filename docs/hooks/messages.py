"""A hook of MkDocs: writes the tables of all messages with their remedies into the page troubleshooting.md."""

from catalogue import Message, messages, remedies
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

_PLACE = "<!-- The built site lists all messages here. -->"
# The heading of the messages of the modules whose path begins so; the first that fits counts.
_HEADINGS = {
    "pipeline/kubeflow/": "Kubeflow Pipelines",
    "pipeline/engine/": "Beam on other machines",
    "pipeline/doctor.py": "The installation",
    "pipeline/data/": "Images",
    "pipeline/": "Commands, settings and the working directory",
    "trainer/settings_tree.py": "Commands, settings and the working directory",
    "trainer/storage.py": "Commands, settings and the working directory",
    "trainer/failures.py": "Commands, settings and the working directory",
    "components/image_example_gen/": "Images",
    "components/data_": "Images",
    "trainer/encoders/": "Encoders and pretrained networks",
    "trainer/keras_networks.py": "Encoders and pretrained networks",
    "trainer/pretrained.py": "Encoders and pretrained networks",
    "components/model_registry/": "The model registry",
    "components/registry_pusher/": "The model registry",
    "components/champion_resolver/": "The model registry",
    "components/": "Evaluation and embeddings",
    "trainer/": "Training",
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
        heading = next(heading for start, heading in _HEADINGS.items() if message.file.startswith(start))
        # Some messages are those of several modules.
        by_heading[heading][message._replace(file="")] = None
    lines = []
    for heading, found in by_heading.items():
        lines += [f"### {heading}", "", "| message | exit code |", "|---|---|"]
        for message in sorted(found, key=lambda message: message.text.lstrip("… :")):
            remedy = known.get(message.text)
            cell = f"`{message.text}`".replace("|", "\\|") + (f"<br>{remedy}" if remedy else "")
            lines.append(f"| {cell} | {'' if message.exit_code is None else message.exit_code} |")
        lines.append("")
    return "\n".join(lines)
