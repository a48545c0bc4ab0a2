"""Have the local files of a source changed?"""

from __future__ import annotations

from pathlib import Path

from floodline import config
from floodline.manifest import hash_of


def fingerprint(source: config.Source | config.BoxesSource) -> str | None:
    """Tells whether local files of a source were changed since they were read: names, sizes and times of change."""
    if isinstance(source, config.BoxesSource):
        return hash_of([fingerprint(one.source) for one in source.boxes])
    if isinstance(source, config.PhantomSource) or "://" in source.path:
        return None
    path = Path(source.path)
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    return hash_of([[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files])
