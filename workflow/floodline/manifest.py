"""Files that are whole or absent: atomic writes, hashes of parameters, manifests and checksummed blocks.

Snakemake deletes the declared outputs of a failed job, so a block store stays undeclared: every block carries the hash
of the parameters that made it, and the manifest, written last, is what later rules ask for.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from floodline.errors import FloodlineError

MAGIC = b"floodline block 1\n"


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: `path` is never half-written.

    Raises:
        FloodlineError: the disk is full or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise FloodlineError(f"cannot write {path}: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_atomically(path, write)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        FloodlineError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise FloodlineError(f"{path} is missing: run the stage that writes it first.") from None
    except ValueError as error:
        raise FloodlineError(f"{path} is not valid JSON ({error}): delete it and run its stage again.") from error


def hash_of(value: Any) -> str:
    """A short hash of plain data (anything that JSON can hold), independent of the order of keys."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def hash_of_file(path: Path) -> str:
    """A short hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def write_block(path: Path, parameters: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as one checksummed file that says which parameters made it.

    Layout: a magic line; a line of JSON with `parameters` and the payload's `blake2b`; the payload, an uncompressed
    .npz without pickles. The same arrays give the same bytes.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(array) for name, array in arrays.items()})
    payload = buffer.getbuffer()
    digest = hashlib.blake2b(payload, digest_size=16).hexdigest()
    header = json.dumps({"parameters": parameters, "blake2b": digest}).encode()

    def write(file: BinaryIO) -> None:
        file.write(MAGIC + header + b"\n")
        file.write(payload)

    write_atomically(path, write)


class DamagedBlock(FloodlineError):
    """A block file that was cut short or changed after it was written."""


def read_block(path: Path, parameters: str | None = None) -> dict[str, np.ndarray] | None:
    """Read a block; None if it is absent or was made with other parameters (`parameters` None takes any).

    Raises:
        DamagedBlock: the file is not what was written.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    magic, _, rest = content.partition(b"\n")
    header, newline, payload = rest.partition(b"\n")
    try:
        fields = json.loads(header)
        expected, made_with = fields["blake2b"], fields["parameters"]
    except (ValueError, TypeError, KeyError):
        expected = made_with = None
    intact = magic + b"\n" == MAGIC and newline and hashlib.blake2b(payload, digest_size=16).hexdigest() == expected
    if not intact:
        raise DamagedBlock(f"{path} is damaged (its checksum does not match): delete it and run its stage again.")
    if parameters is not None and made_with != parameters:
        return None
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
