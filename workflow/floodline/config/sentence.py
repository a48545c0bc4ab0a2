"""The schema, and the sentence about what is wrong with a configuration."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import ValidationError

from floodline.config.experiment import Config


def schema() -> dict[str, Any]:
    """The JSON schema of the configuration."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def _tags(node: Any) -> set[str]:
    """Values that tell the models of a union apart ("phantom"), anywhere in a schema."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = (
        set(node["discriminator"]["mapping"])
        if isinstance(node, dict) and "mapping" in node.get("discriminator", {})
        else set()
    )
    return own.union(*map(_tags, children))


def sentence(error: ValidationError) -> str:
    """One sentence about the first thing that is wrong."""
    first = error.errors()[0]
    # pydantic puts the tag of a union into the path of a key: a user did not write it there.
    tags = _tags(schema())
    path = [str(part) for part in first["loc"] if part not in tags]
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


def _known_keys(path: list[str]) -> list[str]:
    """Keys allowed at a place of the tree, from the schema."""
    root = schema()
    nodes = [root]
    for part in path:
        nodes = [
            _resolve(root, child)
            for node in nodes
            for option in _options(root, node)
            for child in [option.get("properties", {}).get(part) or option.get("items")]
            if child
        ]
    return [key for node in nodes for option in _options(root, node) for key in option.get("properties", {})]


def _resolve(root: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = root["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


def _options(root: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    node = _resolve(root, node)
    return [_resolve(root, option) for option in [*node.get("anyOf", []), *node.get("oneOf", [])]] or [node]
