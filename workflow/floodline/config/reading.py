"""From YAML to a checked tree and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from floodline.config.cells import cells
from floodline.config.experiment import Config
from floodline.config.sentence import sentence
from floodline.errors import FloodlineError


def parse(values: Any, where: str = "the configuration") -> Config:
    """Validate a configuration tree.

    Raises:
        FloodlineError: a key is unknown or impossible; the sentence names it, and the nearest right one.
    """
    data = values.get("data", Config.model_fields["data"].default) if isinstance(values, dict) else None
    try:
        config = Config.model_validate(_fill_in(values, str(data)))
    except ValidationError as error:
        raise FloodlineError(f"{where}: {sentence(error)}") from None
    if config.study is not None:
        cells(config)  # says what is wrong with the matrix
    return config


def _fill_in(values: Any, data: str) -> Any:
    """Put the folder of the data wherever a text says {data}."""
    if isinstance(values, dict):
        return {key: _fill_in(value, data) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_fill_in(value, data) for value in values]
    return values.replace("{data}", data) if isinstance(values, str) else values


def load(path: Path) -> Config:
    """Read and validate a YAML file.

    Raises:
        FloodlineError: the file is missing, is not YAML, or has an unknown or impossible key.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise FloodlineError(f"{path} does not exist.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FloodlineError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    return parse(values, str(path))


def dump(config: Config) -> str:
    """The resolved configuration as YAML, every default filled in."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100)
