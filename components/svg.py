"""Draws figures of Matplotlib as inline SVG, whose lines and text take the colour of the page's text."""

import io
import re
from typing import Any

import matplotlib as mpl
from cycler import cycler
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

# Stands for the colour of the page's text; `drawn` replaces it.
_INK = "#010203"
#: The colours of the series. They have about the same lightness, so that all are visible on white and on black.
COLOURS = (
    *("#4269d0", "#d98e04", "#e8553f", "#3aa394", "#3c9a4a"),
    *("#e0669a", "#a463f2", "#6c9bd9", "#9c6b4e", "#868b94"),
)
_STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.titlesize": 10,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.grid": True,
    "grid.color": _INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}


def style() -> Any:
    """Returns the context in which a figure is made and drawn."""
    return mpl.rc_context(_STYLE)


def escaped(text: str) -> str:
    """Returns a text that Matplotlib draws as it is."""
    # Matplotlib interprets text between dollar signs as a formula, and leaves names with an underscore in front out of
    # legends, which a hair space before it prevents.
    return ("\u200a" * text.startswith("_")) + text.replace("$", r"\$")


def drawn(figure: Figure, description: str, name: str) -> Markup:
    """Draws a figure.

    Args:
        figure: The figure.
        description: What it shows, for those who cannot see it.
        name: A name that no other figure of the page has.

    Returns:
        An `svg` element as wide as its surroundings.
    """
    buffer = io.StringIO()
    # The salt makes the ids the same in every run, and different for each plot on a page.
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    head, _, rest = drawing.partition(">")
    head = re.sub(r'\s(xmlns(:xlink)?|version|width|height)="[^"]*"', "", head)
    ids = re.sub(r"\W", "-", name)
    rest = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{ids}-", rest).replace(_INK, "currentColor")
    # matplotlib escapes the texts in the drawing, and the description is escaped here.
    return Markup(f'{head} role="img" aria-label="{escape(description)}">{rest}')  # noqa: S704
