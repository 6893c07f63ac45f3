"""Elements of HTML and SVG, made so that they are well-formed and their text is escaped."""

from __future__ import annotations

import xml.etree.ElementTree as ET

__all__ = ["Element", "Node", "el", "html", "raw_text"]

Element = ET.Element
Node = Element | str | None


def el(tag: str, *children: Node, **attributes: object) -> Element:
    """``<tag>`` with ``attributes`` and ``children``; those that are ``None`` are left out. ``_`` in a name
    stands for ``-``, and one at its end for nothing: ``class_``."""
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
            made.set(name if name == "viewBox" else name.rstrip("_").replace("_", "-"), text)
    for child in children:
        if isinstance(child, str):
            _add_text(made, child)
        elif child is not None:
            made.append(child)
    return made


def _add_text(made: Element, text: str) -> None:
    if len(made):
        made[-1].tail = (made[-1].tail or "") + text
    else:
        made.text = (made.text or "") + text


def raw_text(text: str) -> str:
    """``text`` for a ``<style>``, where nothing is escaped."""
    assert "<" not in text  # noqa: S101 - ours, and no user's
    return text


def html(root: Element) -> str:
    """A page: ``root`` is its ``<html>``."""
    return f"<!doctype html>\n{ET.tostring(root, encoding='unicode', method='html')}\n"
