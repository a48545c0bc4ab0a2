"""The image: source, crop, grey values, layer, and the statistics that the network's input is normalised with.

1. Where grey values change by percentiles or histograms, every block's are counted first.
2. Every block is read, changed and written, on all workers.
3. The manifest, written last, has the statistics of all voxels and the checksum of all chunks.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path

import numpy as np

from floodline import config, pool
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, Triple
from floodline.ingest import clahe, previews
from floodline.ingest.blocks import Checksums, do, is_there, whole_chunks, written
from floodline.ingest.normalise import Recipe, applied, counts_by_section, kept_fill, needs_counts, result_type
from floodline.manifest import hash_of, hash_of_file, read_block, write_block, write_bytes, write_json
from floodline.steps import Arrays, Steps
from floodline.volumes.agreement import voxel_size
from floodline.volumes.fingerprint import fingerprint
from floodline.volumes.histograms import mean_and_stddev
from floodline.volumes.layer import Layer
from floodline.volumes.sources import Volume, open_image


def run(experiment: Experiment, workers: int = 1, memory_mb: int = 1000) -> None:
    """Write the layer `image/` and its manifest with the mean and standard deviation of all voxels.

    Args:
        workers: processes that work side by side where there is no launcher.
        memory_mb: memory of each of them; the blocks are as small as that needs.

    Raises:
        FloodlineError: the source is missing, damaged, not of 8 or 16 bits, or constant, the crop leaves it, or its
            voxel size is not known or contradicts the configuration.
        OutOfTime: the scheduler is about to end the job; finished blocks are kept.
    """
    pool.run(pool.Crew(partial(_Worker, experiment.folder), do), partial(_lead, experiment, memory_mb), workers)


class _Image:
    """The source, opened, and what it becomes."""

    def __init__(self, experiment: Experiment) -> None:
        self.wanted = experiment.config.image
        self.chunk_size_xyz = experiment.config.storage.chunk_size_xyz
        self.volume = open_image(self.wanted.source, experiment.config.seed)
        self.box = cropped_box(self.wanted, self.volume)
        self.voxel_size_nm_xyz = voxel_size(self.wanted, self.volume)
        self.levels = np.iinfo(self.volume.dtype).max + 1
        self.dtype = result_type(self.wanted.normalise, self.volume.dtype)
        self.fill = kept_fill(self.wanted.normalise, self.dtype)

    def bytes_of(self, size_xyz: Triple) -> float:
        """Memory that the work on a block of this size needs: voxels read, and several copies of those written."""
        x, y, z = size_xyz
        equalise = self.wanted.normalise.clahe
        margin_x, margin_y = (2 * size for size in equalise.kernel_size_xy) if equalise else (0, 0)
        read = (x + margin_x) * (y + margin_y) * z
        tables = z * self.levels * 8 if needs_counts(self.wanted.normalise) else 0
        # A slice at a time is turned into float32 and into indices of eight bytes.
        slice_ = 40 * (x + margin_x) * (y + margin_y) if equalise else 8 * x * y
        return 2 * read * self.volume.dtype.itemsize + 4 * x * y * z * self.dtype.itemsize + tables + slice_


def _parameters(experiment: Experiment) -> str:
    """Hash of all that decides the layer's content."""
    wanted = experiment.config.image
    reference = wanted.normalise.match.reference if wanted.normalise.match else None
    return hash_of(
        {
            "image": wanted.model_dump(mode="json"),
            "seed": experiment.config.seed,
            "chunk_size_xyz": experiment.config.storage.chunk_size_xyz,
            "source": fingerprint(wanted.source),
            "reference": hash_of_file(Path(reference)) if reference and Path(reference).is_file() else None,
        }
    )


# --- one process leads -----------------------------------------------------------------------------------------------


def _lead(experiment: Experiment, memory_mb: int, hand_out: pool.HandOut) -> None:
    experiment.manifest("image").unlink(missing_ok=True)
    image, folder = _Image(experiment), experiment.beside("image")
    boxes = whole_chunks(image.box, image.chunk_size_xyz, memory_mb, image.bytes_of)
    with Steps[_Worker](experiment.unfinished("image"), _parameters(experiment), hand_out) as todo:
        if not (todo.has_begun("write") and is_there(experiment.layer("image"))):
            _create(experiment, image)
        recipe = _counted(experiment, image, boxes, todo)
        counts = np.zeros(np.iinfo(image.dtype).max + 1, np.int64)
        digests = Checksums(image.box, image.chunk_size_xyz)
        results = todo.do("write", {box.name: partial(_write, box) for box in boxes})
        for box, result in zip(boxes, results, strict=True):
            counts += result["counts"]
            digests.add(box, result["checksums"])
        if counts.sum() == 0:
            raise FloodlineError(f"every voxel of the image in {image.box} is fill (image.normalise.fill).")
        mean, stddev = mean_and_stddev(counts)
        if stddev == 0:
            raise FloodlineError(f"every voxel of the image in {image.box} is {mean:g}: check the source and the crop.")
        checksum = digests.write(folder)
        _write_histogram(folder / "histogram.npy", counts)
        previews.write(folder / "previews", image.volume, image.box, recipe)
        write_json(
            experiment.manifest("image"),
            {
                "box_xyz": image.box.corners,
                "voxel_size_nm_xyz": list(image.voxel_size_nm_xyz),
                "dtype": image.dtype.name,
                "mean": mean,
                "stddev": stddev,
                "checksum": checksum,
            },
        )


def _create(experiment: Experiment, image: _Image) -> Layer:
    return Layer.create(
        experiment.layer("image"),
        box=image.box,
        dtype=image.dtype.name,
        voxel_size_nm_xyz=image.voxel_size_nm_xyz,
        chunk_size_xyz=image.chunk_size_xyz,
        kind="image",
    )


def _counted(experiment: Experiment, image: _Image, boxes: list[Box], todo: Steps[_Worker]) -> Recipe:
    """Count the grey values if that is needed, and leave the tables of all sections for the workers."""
    wanted = image.wanted.normalise
    if not needs_counts(wanted):
        return Recipe(wanted, image.volume.dtype, None)

    def counted() -> Iterator[tuple[Box, np.ndarray]]:
        for box, result in zip(boxes, todo.do("count", {box.name: partial(_count, box) for box in boxes}), strict=True):
            yield box, result["counts"]

    total = np.zeros(image.levels, np.int64)
    for _, counts in counted():
        total += counts.sum(axis=0, dtype=np.int64)
    recipe = Recipe(wanted, image.volume.dtype, total)
    # x runs fastest and z slowest: the blocks of a slab follow one another.
    for slab, parts in groupby(counted(), lambda part: _slab(image.box, part[0])):
        sections = sum((counts for _, counts in parts), np.zeros((slab.size_xyz[2], image.levels), np.int64))
        tables = [recipe.table(counts) for counts in sections]
        write_block(_tables(experiment, slab), "", {"tables": np.stack([one for one in tables if one is not None])})
    return recipe


def _tables(experiment: Experiment, slab: Box) -> Path:
    """Where the tables of some sections lie for the workers."""
    return experiment.unfinished("image") / "tables" / slab.name


def _slab(whole: Box, box: Box) -> Box:
    """The sections that a block is a part of."""
    (x0, y0, _), (x1, y1, _) = whole.start_xyz, whole.stop_xyz
    return Box((x0, y0, box.start_xyz[2]), (x1, y1, box.stop_xyz[2]))


def _write_histogram(path: Path, counts: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, counts)
    write_bytes(path, buffer.getvalue())


# --- all processes work ----------------------------------------------------------------------------------------------


class _Worker:
    """What a process keeps from one block to the next."""

    def __init__(self, folder: Path) -> None:
        self.experiment = Experiment(folder)

    @cached_property
    def image(self) -> _Image:
        """Opened with the first block that is not done yet."""
        return _Image(self.experiment)

    @cached_property
    def layer(self) -> Layer:
        return Layer.open(self.experiment.layer("image"))

    def layer_of(self, step: str) -> Layer:
        return self.layer

    def tables(self, box: Box) -> np.ndarray | None:
        """Tables of the sections of a block."""
        wanted = self.image.wanted.normalise
        if not needs_counts(wanted):
            table = Recipe(wanted, self.image.volume.dtype, None).table(None)
            return None if table is None else table[np.newaxis]
        stored = read_block(_tables(self.experiment, _slab(self.image.box, box)))
        assert stored is not None
        return stored["tables"]


def _count(box: Box, worker: _Worker) -> Arrays:
    """How often each grey value of the source occurs in each section of a block."""
    image = worker.image
    return {"counts": counts_by_section(image.volume.read(box), image.levels, image.wanted.normalise.fill)}


def _write(box: Box, worker: _Worker) -> Arrays:
    """Read a block, change its grey values, and write it; how often each occurs then."""
    array = _normalised(worker, box)
    counts = counts_by_section(array, np.iinfo(array.dtype).max + 1, worker.image.fill).sum(axis=0, dtype=np.int64)
    return written(worker.layer, box, array) | {"counts": counts}


def _normalised(worker: _Worker, box: Box) -> np.ndarray:
    """The voxels of a block as they go into the layer."""
    image = worker.image
    tables = worker.tables(box)

    def read(wanted: Box) -> np.ndarray:
        return applied(tables, image.volume.read(wanted))

    equalise = image.wanted.normalise.clahe
    return read(box) if equalise is None else clahe.equalised(read, box, image.box, equalise, image.fill)


# --- what the labels need, too ---------------------------------------------------------------------------------------


def cropped_box(wanted: config.Image, volume: Volume) -> Box:
    """The part of the image source to use.

    Raises:
        FloodlineError: the crop reaches outside the source.
    """
    if wanted.crop_xyz is None:
        return volume.box
    crop = Box.of(wanted.crop_xyz)
    if not volume.box.contains(crop):
        raise FloodlineError(f"image.crop_xyz {crop} reaches outside the source, whose box is {volume.box}.")
    return crop
