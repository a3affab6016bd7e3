"""Matplotlib's figures as SVG inside a page: without addresses, in the page's colours.

Colours are names of the page's style, so that one picture serves light and dark.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS = 72  # per inch, so that a unit of the picture is a pixel of the page
TEXT, QUIET, ACCENT, WARNING = "#010101", "#020202", "#030303", "#040404"
NAMED = {
    TEXT: "currentColor",
    QUIET: "var(--quiet)",
    ACCENT: "var(--accent)",
    WARNING: "var(--warning)",
}
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: to be read aloud, searched, and enlarged
    "svg.hashsalt": "report",
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    **dict.fromkeys(
        ("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "text.color"), TEXT
    ),
}
DROPPED = ("metadata", "style")


def inline(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an `svg` element.

    Args:
        name: unique in the page; ids in the picture begin with it.
        title, description: what is read aloud in its place.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(text.getvalue())
    for element in root.iter():
        for child in [c for c in element if _plain(c.tag) in DROPPED]:
            element.remove(child)
        _embed(element, name)
    root.attrib.pop("width")
    root.attrib.pop("height")
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-description"}
    for number, (kind, content) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(kind, id=f"{name}-{'description' if number else 'title'}")
        element.text = content
        root.insert(number, element)
    return ElementTree.tostring(root, encoding="unicode")


def _embed(element: ElementTree.Element, name: str) -> None:
    """Take namespaces off, make ids unique in the page, replace colours by those of its style."""
    element.tag = _plain(element.tag)
    for key, value in list(element.attrib.items()):
        del element.attrib[key]
        if key == "id":
            value = f"{name}-{value}"
        elif value.startswith("#"):
            value = f"#{name}-{value[1:]}"
        elif key == "style":
            value = re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", value)
            for colour, named in NAMED.items():
                value = value.replace(colour, named)
        element.attrib[_plain(key)] = value


def _plain(name: str) -> str:
    return name.rpartition("}")[2]
