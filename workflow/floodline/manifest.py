"""Files that are whole or absent: atomic writes, hashes of parameters, manifests and checksummed blocks.

Snakemake deletes the declared outputs of a failed job, so a block store stays undeclared: every block carries the hash
of the parameters that made it, and the manifest, written last, is what later rules ask for.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""

    def write(file: BinaryIO) -> None:
        file.write(content)

    write_atomically(path, write)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_once(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all, unless the file is there: of several processes, the first one's stays."""
    if path.exists():
        return
    own = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
    write_json(own, value)
    try:
        os.link(own, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links: of two that write in the same moment, the last one's stays
        own.replace(path)
    finally:
        own.unlink(missing_ok=True)


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


class _Stream(io.RawIOBase):
    """A file that hands on what is written to it, and can nothing else: so nothing is collected in memory."""

    def __init__(self, write: Callable[[memoryview], object]) -> None:
        self.hand_on = write

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self.hand_on(view)
        return view.nbytes


def write_block(path: Path, parameters: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as one checksummed file that says which parameters made it.

    Layout: a magic line; a line of JSON with `parameters` and the payload's `blake2b`; the payload, an uncompressed
    .npz without pickles. The same arrays give the same bytes. The checksum stands before what it is of, so the payload
    is made twice, which takes less memory than keeping it.
    """
    digest = hashlib.blake2b(digest_size=16)
    _save(_Stream(digest.update), arrays)
    header = json.dumps({"parameters": parameters, "blake2b": digest.hexdigest()}).encode()

    def write(file: BinaryIO) -> None:
        file.write(MAGIC + header + b"\n")
        _save(_Stream(file.write), arrays)

    write_atomically(path, write)


def _save(stream: _Stream, arrays: Mapping[str, np.ndarray]) -> None:
    """What np.savez writes, but of volumes it copies one slice at a time and not 16 MB."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, values in arrays.items():
            array = np.asarray(values)
            header = np.lib.format.header_data_from_array_1_0(array) | {"fortran_order": False}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for part in array if array.ndim == 3 else [array]:
                    member.write(part.tobytes())


class DamagedBlock(FloodlineError):
    """A block file that was cut short or changed after it was written."""


LONGEST_HEADER = 4096
"""Bytes; a longer line is none of ours."""


@contextmanager
def open_block(path: Path, parameters: str | None = None) -> Iterator[Mapping[str, np.ndarray] | None]:
    """The arrays of a block, each of which is read when it is asked for; None as for `read_block`.

    Raises:
        DamagedBlock: the file is not what was written.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        magic, header = file.readline(LONGEST_HEADER), file.readline(LONGEST_HEADER)
        start = file.tell()
        try:
            fields = json.loads(header)
            expected, made_with = fields["blake2b"], fields["parameters"]
        except (ValueError, TypeError, KeyError):
            expected = made_with = None
        if magic != MAGIC or _digest_of_rest(file) != expected:
            raise DamagedBlock(f"{path} is damaged (its checksum does not match): delete it and run its stage again.")
        if parameters is not None and made_with != parameters:
            yield None
            return
        file.seek(start)
        with np.load(file, allow_pickle=False) as archive:
            yield archive


def _digest_of_rest(file: BinaryIO) -> str:
    digest = hashlib.blake2b(digest_size=16)
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def read_block(path: Path, parameters: str | None = None) -> dict[str, np.ndarray] | None:
    """Read a block; None if it is absent or was made with other parameters (`parameters` None takes any).

    Raises:
        DamagedBlock: the file is not what was written.
    """
    with open_block(path, parameters) as arrays:
        return None if arrays is None else {name: arrays[name] for name in arrays}
