"""What all HTML pages have in common: each is one file that loads no script, font or picture from elsewhere."""

from pathlib import Path

import jinja2


def environment(folder: Path) -> jinja2.Environment:
    """Returns the environment for the templates of a folder, which extend `frame.html.j2`. All text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}\u202f%"
    return environment
