"""The schema, and the sentence about what is wrong with a configuration."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from floodline.config.experiment import Config


def schema() -> dict[str, Any]:
    """The JSON schema of the configuration."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def sentence(error: ValidationError) -> str:
    """One sentence about the first thing that is wrong."""
    first = error.errors()[0]
    path = _as_written(first["loc"])
    key = ".".join(path) or "the top level"
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(path[-1], _known_keys(path[:-1]), n=1, cutoff=0.5)
        hint = f": did you mean '{close[0]}'?" if close else "."
        return f"unknown key '{key}'{hint}"
    if first["type"] == "missing":
        return f"key '{key}' is missing."
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    given = "" if isinstance(first["input"], dict) else f" (given: {first['input']!r})"
    return f"key '{key}': {message[0].lower()}{message[1:]}{given}."


def _as_written(loc: Sequence[str | int]) -> list[str]:
    """The path of a key without the tags of unions ("phantom"), which pydantic puts into it where a union is."""
    root = schema()
    nodes, path = [root], []
    for part in map(str, loc):
        if not any(part in tagged for tagged in _tagged(root, nodes)):
            path.append(part)
            nodes = _children(root, nodes, part)
    return path


def _tagged(root: dict[str, Any], nodes: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The models of the unions at a place, by their tags."""
    options = [node for one in nodes for node in (_resolve(root, one), *_options(root, one))]
    return [option["discriminator"]["mapping"] for option in options if "mapping" in option.get("discriminator", {})]


def _children(root: dict[str, Any], nodes: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    """What may lie below a place: of the key `part`, or of any number in a list."""
    options = [option for node in nodes for option in _options(root, node)]
    # An optional union, and a list of unions, hold their models one step deeper.
    options += [deeper for option in options for deeper in _options(root, option) if deeper is not option]
    children = [option.get("properties", {}).get(part) or option.get("items") for option in options]
    return [child for child in children if child]


def _known_keys(path: list[str]) -> list[str]:
    """Keys allowed at a place of the tree, from the schema."""
    root = schema()
    nodes = [root]
    for part in path:
        nodes = _children(root, nodes, part)
    return [key for node in nodes for option in _options(root, node) for key in option.get("properties", {})]


def _resolve(root: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = root["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


def _options(root: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    node = _resolve(root, node)
    return [_resolve(root, option) for option in [*node.get("anyOf", []), *node.get("oneOf", [])]] or [node]
