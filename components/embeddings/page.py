"""Shows groups of images on one HTML page, which loads nothing from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components import pages
from components.embeddings.groups import Group
from components.embeddings.thumbnails import thumbnails

# Beyond these numbers, a page is too large to look at.
MOST_GROUPS, MOST_SIMILAR = 200, 12


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        title: Its title.
        sentences: What was found, and how.
        groups: The groups in their order. The first `MOST_GROUPS` are shown, with `MOST_SIMILAR` images each.
        role: What the first image of each group is, in a word or two.
        notes: A clause about the first image of each group; empty if there is nothing to say.
        classes_should_agree: Whether to mark groups whose images have different classes.
    """

    title: str
    sentences: Sequence[str]
    groups: Sequence[Group]
    role: str
    notes: Sequence[str] = ()
    classes_should_agree: bool = False


def render(page: Page) -> str:
    """Renders a page as HTML. A picture that cannot be read is replaced by the reason."""
    shown = page.groups[:MOST_GROUPS]
    pictures = [image.path for group in shown for image in (group.image, *group.similar[:MOST_SIMILAR])]
    return (
        pages.environment(Path(__file__).parent)
        .get_template("groups.html.j2")
        .render(page=page, shown=shown, most=MOST_SIMILAR, thumbnails=thumbnails(pictures))
    )
