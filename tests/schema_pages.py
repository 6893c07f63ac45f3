"""What the documentation has of the configuration's schema: the file itself, and tables of options in pages.

``python tests/schema_pages.py`` renews them.
"""

from __future__ import annotations

import json
import re

from doc_snippets import ROOT

from tiercache.config import schema

FILE = ROOT / "docs" / "reference" / "tiercache.schema.json"
RENEW = "python tests/schema_pages.py"
#: Where a table is: its first line says which part of the schema it shows.
_TABLE = re.compile(r"(<!-- options: (\S+) -->\n).*?(<!-- end of options -->)", re.DOTALL)
#: The part that shows what each kind of value is.
_VALUES = "values"

SCHEMA = schema(plug_ins=False)


def text_of_file():
    """What is to be in `FILE`."""
    return json.dumps(SCHEMA, indent=2) + "\n"


def pages():
    """The pages with tables in them."""
    return [page for page in sorted((ROOT / "docs").rglob("*.md")) if _TABLE.search(page.read_text())]


def tables(page):
    """Which parts of the schema the page shows."""
    return [match[2] for match in _TABLE.finditer(page.read_text())]


def renewed(page):
    """The page's text, with its tables as they are to be."""
    return _TABLE.sub(lambda match: f"{match[1]}\n{_shown(match[2])}\n{match[3]}", page.read_text())


def part(path):
    """What is at ``path``, such as ``memory`` or ``codec-table/vector``, among the schema's definitions."""
    name, _, kind = path.partition("/")
    found = SCHEMA["$defs"][name]
    if kind:
        (found,) = (one["then"] for one in found["allOf"] if kind in one["if"]["properties"]["type"]["enum"])
    elif "anyOf" in found:
        (found,) = (one for one in found["anyOf"] if "properties" in one)
    return found


def options(path):
    """The options there, by name; of one that has two names the first alone."""
    found = part(path)["properties"]
    seconds = [one["required"][0] for one in part(path).get("oneOf", ())][1:]
    return {name: one for name, one in found.items() if "description" in one and name not in seconds}


def _shown(path):
    if path == _VALUES:
        lines = ["| | |", "| --- | --- |"]
        lines += [f"| {_word(name)} | {SCHEMA['$defs'][name]['description']} |" for name in values()]
    else:
        lines = ["| option | takes | unless given | |", "| --- | --- | --- | --- |"]
        lines += [_row(name, option, required(path)) for name, option in options(path).items()]
    return "\n".join(lines) + "\n"


def required(path):
    """The options that must be given there."""
    found = part(path)
    return {*found.get("required", ()), *(one["required"][0] for one in found.get("oneOf", ()))}


def values():
    """The kinds of values that options have."""
    parts = (part(one) for page in pages() for one in tables(page) if one != _VALUES)
    refs = {name for one in parts for name in re.findall(r"#/\$defs/([\w-]+)", json.dumps(one))}
    apart = {"variable", "none", "compress", "encrypt", "codec-table"}
    return [name for name in SCHEMA["$defs"] if name in refs - apart]


def _row(name, option, required):
    unless = ""
    if name in required:
        unless = "must be given"
    elif "default" in option:
        unless = _value(option["default"])
    return f"| `{name}` | {_takes(option)} | {unless} | {option['description']} |"


def _takes(option):
    found = []
    for one in option.get("anyOf", [option]):
        name = one.get("$ref", "").removeprefix("#/$defs/")
        if name == "none":
            found.append('`"none"`')
        elif name != "variable":
            found += map(_value, one["enum"]) if "enum" in one else [_word(name)]
    return ", ".join(found)


def _word(name):
    return name.replace("-url", "-URL").replace("sql", "SQL").replace("redis", "Redis").replace("-", " ")


def _value(value):
    return "nothing" if value is None else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    FILE.write_text(text_of_file())
    for one in pages():
        one.write_text(renewed(one))
