"""Training sites on disk: gzip TFRecords of `tf.train.Example`, the format of google/ffn's `build_coordinates`.

An example holds `center` (int64[3]: x, y, z in the coordinates of the source) and `label_volume_name` (bytes). It is
written without TensorFlow: millions of equal little messages are quicker made as one array.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from floodline.errors import FloodlineError
from floodline.ffn.runtime import tensorflow
from floodline.manifest import read_json, write_atomically

RECORDS_AT_ONCE = 1 << 16


def write_coordinates(path: Path, centers_xyz: np.ndarray, volume_name: str) -> None:
    """Write sites in the order given; the same sites give the same bytes.

    Args:
        path: the file, `*.tfrecord.gz`.
        centers_xyz: (n, 3) integers.
        volume_name: what the examples call the label volume.
    """
    prefix, width = _prefix(volume_name, centers_xyz)

    def write(file: BinaryIO) -> None:
        # No name and no time in gzip's header, for they would differ from run to run.
        with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as packed:
            for start in range(0, len(centers_xyz), RECORDS_AT_ONCE):
                packed.write(_records(prefix, _varints(centers_xyz[start : start + RECORDS_AT_ONCE], width)))

    write_atomically(path, write)


def read_coordinates(folder: Path, names: Sequence[str] | None = None) -> np.ndarray:
    """Sites of a folder `coordinates/`, in the order in which they were written.

    Args:
        names: its files to read; None: all that its manifest lists for training.

    Returns:
        (n, 3) int64: x, y, z in the coordinates of the source.

    Raises:
        FloodlineError: a file is missing or damaged.
    """
    tf = tensorflow()
    names = read_json(folder / "manifest.json")["files"] if names is None else names
    paths = [folder / name for name in names]
    features = {"center": tf.io.FixedLenFeature([3], tf.int64)}
    records = tf.data.TFRecordDataset([str(path) for path in paths], compression_type="GZIP")
    try:
        batches = [tf.io.parse_example(batch, features)["center"].numpy() for batch in records.batch(RECORDS_AT_ONCE)]
    except tf.errors.OpError as error:
        # TensorFlow puts the names of its operations around what it says.
        said = error.message.split("}} ")[-1].split(" [Op:")[0]
        raise FloodlineError(f"the sites in {folder} cannot be read ({said}): make them again.") from error
    return np.concatenate([np.zeros((0, 3), np.int64), *batches])


def _prefix(volume_name: str, centers_xyz: np.ndarray) -> tuple[bytes, int]:
    """What every example begins with, up to the coordinates, and the bytes of each coordinate.

    Protocol buffers allow integers to be written with more bytes than they need. With the width of the longest for
    all, all examples have one length.
    """
    smallest, largest = (int(value) for value in (centers_xyz.min(initial=0), centers_xyz.max(initial=0)))
    width = 10 if smallest < 0 else max(1, -(-largest.bit_length() // 7))
    name = _field(1, volume_name.encode())  # BytesList.value
    name_entry = _field(1, b"label_volume_name") + _field(2, _field(1, name))  # map entry: key, Feature.bytes_list
    # Each length counts what follows it, so the coordinates, which come last, are put in as zeros and cut off again.
    packed = _field(1, bytes(3 * width))  # Int64List.value
    center_entry = _field(1, b"center") + _field(2, _field(3, packed))  # map entry: key, Feature.int64_list
    example = _field(1, _field(1, name_entry) + _field(1, center_entry))  # Example.features, Features.feature
    return example[: -3 * width], width


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    length = np.array([[len(content)]])
    width = max(1, -(-len(content).bit_length() // 7))
    return bytes([number << 3 | 2]) + _varints(length, width).tobytes() + content


def _varints(values: np.ndarray, width: int) -> np.ndarray:
    """(n, k) integers as (n, k * width) bytes: seven bits a byte, lowest first, the eighth says that more follow."""
    shifts = 7 * np.arange(width, dtype=np.uint64)
    digits = (values.astype(np.int64).view(np.uint64)[:, :, None] >> shifts) & np.uint64(0x7F)
    digits[:, :, :-1] |= np.uint64(0x80)
    return digits.astype(np.uint8).reshape(len(values), -1)


def _records(prefix: bytes, endings: np.ndarray) -> bytes:
    """TFRecords of messages that all begin with `prefix` and end with a row of `endings` (n, k): uint64 length, its
    checksum, the message, its checksum."""
    count, size = len(endings), len(prefix) + endings.shape[1]
    header = np.frombuffer(size.to_bytes(8, "little"), np.uint8)
    checksum = _crc32c(_crc32c(np.zeros(1, np.uint32), np.frombuffer(prefix, np.uint8)[None]), endings)
    records = np.empty((count, 8 + 4 + size + 4), np.uint8)
    records[:, :8] = header
    records[:, 8:12] = _masked(_crc32c(np.zeros(1, np.uint32), header[None]))
    records[:, 12 : 12 + len(prefix)] = np.frombuffer(prefix, np.uint8)
    records[:, 12 + len(prefix) : -4] = endings
    records[:, -4:] = _masked(checksum)
    return records.tobytes()


def _crc32c_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ 0x82F63B78, table >> 1).astype(np.uint32)
    return table


CRC32C_TABLE = _crc32c_table()


def _crc32c(checksums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """CRC-32C (Castagnoli) of each row of bytes (n, k), going on from the checksum (n or 1) of what came before it."""
    state = ~checksums
    for column in rows.T:
        state = CRC32C_TABLE[(state ^ column) & 0xFF] ^ (state >> 8)
    return ~state


def _masked(checksums: np.ndarray) -> np.ndarray:
    """Checksums as TFRecords store them (rotated and shifted, so that checksums of checksums differ): (n, 4) bytes."""
    rotated = (checksums >> 15 | checksums << 17) + np.uint32(0xA282EAD8)
    return cast(np.ndarray, rotated.astype("<u4")).view(np.uint8).reshape(-1, 4)
