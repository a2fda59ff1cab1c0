"""HTML as a tree, so that whatever a text holds is shown, and never read as a tag."""

from __future__ import annotations

from xml.etree import ElementTree

Node = ElementTree.Element
#: What may stand in a node.
Part = Node | str | None


def node(tag: str, *parts: Part, **attributes: str | float | None) -> Node:
    """An element. ``class_`` stands for class, an underscore for a hyphen; an attribute that is
    None is left out, and so is such a part."""
    made = Node(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), _text(value))
    return fill(made, *parts)


def fill(made: Node, *parts: Part) -> Node:
    """Add parts to an element; returns it."""
    for part in parts:
        if isinstance(part, Node):
            made.append(part)
        elif part and len(made):
            made[-1].tail = (made[-1].tail or "") + part
        elif part:
            made.text = (made.text or "") + part
    return made


def written(root: Node) -> str:
    """A whole page. Half a surrogate pair, which UTF-8 cannot have, is shown as a number."""
    text = ElementTree.tostring(root, encoding="unicode", method="html")
    return f"<!doctype html>\n{text}\n".encode(errors="backslashreplace").decode()


def percent(share: float) -> str:
    """A share of 1 for a coordinate."""
    return f"{100 * share:.2f}%"


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"
