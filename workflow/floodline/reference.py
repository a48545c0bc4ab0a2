"""The reference of the configuration, config/README.md, made from the models."""

from __future__ import annotations

import json
import re
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from floodline.config import Config

HEAD = """# The configuration

One YAML file describes an experiment; `config.yaml` is the demo's, `experiments/` has more. Keys that are left out have
the values below; an unknown key is an error that names it. Triples are x, y, z, in voxels of the ingested volume; boxes
are `[[x0, y0, z0], [x1, y1, z1]]`, the first corner inside and the second outside, in the image source's coordinates.

A single value can be changed for one run: `snakemake --profile profiles/local --config 'seed=2'`, or for a nested one
`--config 'agglomeration={solver: {threshold: 0.7}}'`. What a machine needs (cores, ranks, queues) is in `profiles/`.

This page is made from the models by `make schema`.
"""


def markdown() -> str:
    """A section with a table for every block of the configuration, in the order of their keys."""
    sections: dict[type[BaseModel], str] = {}
    _collect(Config, "", sections)
    return HEAD + "".join(_section(model, title) for model, title in sections.items())


def _collect(model: type[BaseModel], path: str, sections: dict[type[BaseModel], str]) -> None:
    """Find the blocks below a model and give each the path of its first key as a title."""
    if model in sections:
        return
    sections[model] = _variant(model) or path or "The top level"
    for key, field in model.model_fields.items():
        for child in _models(field.annotation):
            _collect(child, f"{path}.{key}".lstrip("."), sections)


def _variant(model: type[BaseModel]) -> str | None:
    """Title of one of several models that a key can hold: its noun, and the key that tells it from the others."""
    for tag in ("kind", "policy"):
        if tag in model.model_fields:
            noun = re.findall("[A-Z][a-z0-9]*", model.__name__)[-1]
            return f"{noun}, {tag} {' or '.join(get_args(model.model_fields[tag].annotation))}"
    return None


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Models that a key's type mentions."""
    if get_origin(annotation) is not None:
        return [model for part in get_args(annotation) for model in _models(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def _section(model: type[BaseModel], title: str) -> str:
    summary = " ".join((model.__doc__ or "").split())
    rows = [f"| `{key}` | {_default(field)} | {_meaning(field)} |\n" for key, field in model.model_fields.items()]
    return f"\n## {title}\n\n{summary}\n\n| key | default | meaning |\n|---|---|---|\n" + "".join(rows)


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "its own section"
    return "required" if field.default is PydanticUndefined else f"`{json.dumps(field.default)}`"


def _meaning(field: FieldInfo) -> str:
    # Only the key that tells variants apart has no description: its section is about it.
    return (field.description or "As the title says.").replace("|", "\\|")
