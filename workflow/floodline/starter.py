"""`floodline info` and `floodline new`: from a volume's own metadata to a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from floodline import config
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box
from floodline.manifest import read_json, write_text
from floodline.volumes.agreement import same_size
from floodline.volumes.placement import Size
from floodline.volumes.recognise import recognise
from floodline.volumes.sources import Volume, open_source

HELD_OUT = 4
"""One part in so many of the labels is not trained on."""

IMAGE_TYPES = ("uint8", "uint16", "int8", "int16")

LAYERS = ("image", "labels", "supervoxels", "neurons")


@dataclass(frozen=True)
class Found:
    """A volume, and how the configuration names it."""

    source: config.Source
    volume: Volume

    @property
    def is_image(self) -> bool:
        return self.volume.dtype.name in IMAGE_TYPES


def find(name: str) -> list[Found]:
    """The volumes that a path or URL stands for.

    Raises:
        FloodlineError: there is none, or one is damaged.
    """
    return [Found(source, open_source(source, seed=0)) for source in recognise(name)]


def find_one(name: str) -> Found:
    """The one volume that a path or URL stands for.

    Raises:
        FloodlineError: there is none, or more than one, or it is damaged.
    """
    found = find(name)
    if len(found) > 1:
        names = ", ".join(_named(one.source) for one in found)
        raise FloodlineError(f"{name} holds several volumes: name one, {names}.")
    return found[0]


def describe(name: str) -> str:
    """What `floodline info` prints of a volume, of every volume of a container, or of an experiment's layers.

    Raises:
        FloodlineError: there is nothing, or it is damaged.
    """
    if (Path(name) / "config.yaml").is_file():
        experiment = Experiment(Path(name))
        there = [layer for layer in LAYERS if experiment.manifest(layer).is_file()]
        if not there:
            raise FloodlineError(f"the experiment {name} has no layer yet: run snakemake.")
        return "\n".join(_facts(find_one(str(experiment.layer(layer)))) for layer in there)
    return "\n".join(f"{_facts(one)}\n{block(one)}" for one in find(name))


def _named(source: config.Source) -> str:
    """As `recognise` takes it."""
    fields = source.model_dump(mode="json")
    return ":".join(fields[key] for key in ("path", "dataset") if key in fields)


def _facts(found: Found) -> str:
    volume = found.volume
    nm = volume.voxel_size_nm_xyz
    rows = {
        "volume": _named(found.source),
        "kind": found.source.kind,
        "size": f"{_times(volume.box.size_xyz)} voxels (x, y, z), {_bytes(volume.box.voxels * volume.dtype.itemsize)}",
        "box": str(volume.box),
        "type": volume.dtype.name,
        "voxel size": f"{_times(nm)} nm" if nm else "not said",
        "chunks": _times(volume.stored.chunk_size_xyz),
        "compression": volume.stored.compression,
    }
    if nm:
        rows["extent"] = (
            f"{_times([size * side / 1000 for size, side in zip(volume.box.size_xyz, nm, strict=True)])} µm"
        )
    return "".join(f"{key:<12}{value}\n" for key, value in rows.items())


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def block(found: Found, voxel_size_nm_xyz: Size | None = None) -> str:
    """The part of a configuration that names this volume; a voxel size is written where the file does not say it."""
    source = _flow(found.source.model_dump(mode="json", exclude_defaults=True))
    if not found.is_image:
        return f"labels:\n  source: {source}\n"
    size = voxel_size_nm_xyz or found.volume.voxel_size_nm_xyz
    said = f"{_flow(_plain(size))}" if size else "[?, ?, ?] # the file does not say: x, y, z in nanometres"
    return f"image:\n  source: {source}\n  voxel_size_nm_xyz: {said}\n"


def _flow(value: Any) -> str:
    """YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()


def _plain(values: Sequence[float]) -> list[float]:
    """Whole numbers without a point."""
    return [int(value) if value == int(value) else value for value in values]


def new(folder: Path, image: str, labels: str | None, weights: str | None, voxel_size_nm_xyz: Size | None) -> Path:
    """Write `config.yaml` into a folder that has none.

    Args:
        folder: its name becomes the experiment's.
        image, labels: paths or URLs of volumes; labels None: there are none.
        weights: of a trained network, a model/ folder or a checkpoint; None: one is trained.
        voxel_size_nm_xyz: where the image does not say it.

    Returns:
        the file.

    Raises:
        FloodlineError: a volume is missing, or is not what it should be, or something is not known.
    """
    path = folder / "config.yaml"
    if path.exists():
        raise FloodlineError(f"{path} is there already: name another folder.")
    if labels is None and weights is None:
        raise FloodlineError("without labels no network can be trained: give --labels, or --weights of a trained one.")
    found, truth = find_one(image), find_one(labels) if labels else None
    if not found.is_image:
        raise FloodlineError(f"{image} holds {found.volume.dtype}: an image is of 8 or 16 bits.")
    said = found.volume.voxel_size_nm_xyz
    size = voxel_size_nm_xyz or said
    if size is None:
        raise FloodlineError(f"{image} does not say how large its voxels are: give --voxel-size X Y Z, in nanometres.")
    if said is not None and not same_size(size, said):
        raise FloodlineError(f"{image} says that its voxels are {_times(said)} nm, not {_times(size)}: correct it.")
    lines = [
        "# Begun by `floodline new`. Every key, with its default, is explained in config/README.md.",
        f"name: {folder.resolve().name}",
        *block(found, size).splitlines(),
        *(_of_labels(truth, found.volume.box) if truth else []),
        *_of_network(weights, size),
    ]
    if weights is None:
        lines += ["# Fields of view that training sees, by all workers together.", "training: {fovs: 1000000}"]
    text = "\n".join(lines)
    config.parse(yaml.safe_load(text), str(path))
    write_text(path, text + "\n")
    return path


def _of_labels(truth: Found, image: Box) -> list[str]:
    """Labels, and their division into what is trained on and what is scored on."""
    box = truth.volume.box
    if not image.contains(box):
        raise FloodlineError(f"the labels fill {box}, but the image only {image}.")
    lines = block(truth).rstrip().splitlines()
    if truth.is_image:
        # Labels may be of any integer type.
        lines = ["labels:", lines[1]]
    if box != image:
        lines += ["  # Where the labels lie in the image: check this.", f"  box_xyz: {_flow(box.corners)}"]
    axis = max(range(3), key=lambda i: (box.size_xyz[i], i))
    cut = box.stop_xyz[axis] - box.size_xyz[axis] // HELD_OUT
    stop, start = list(box.stop_xyz), list(box.start_xyz)
    stop[axis] = start[axis] = cut
    trained, held_out = [list(box.start_xyz), stop], [start, list(box.stop_xyz)]
    return [
        *lines,
        "# Trained on.",
        f"sites: {{box_xyz: {_flow(trained)}}}",
        "# Scored on, never trained on.",
        f"evaluation: {{boxes: [{{name: held_out, box_xyz: {_flow(held_out)}}}]}}",
    ]


def _of_network(weights: str | None, voxel_size_nm_xyz: Size) -> list[str]:
    """The network that the weights are for; else one whose field of view suits the shape of the voxels.

    The fields of view are those published for FIB-25 (33 x 33 x 33, voxels are cubes) and for J0126 (33 x 33 x 17,
    voxels twice as long in z): M. Januszewski et al., Nature Methods 15 (2018). Beyond three times it is halved again.
    """
    network: dict[str, Any] = {}
    if weights is not None:
        card = Path(weights) / "card.json"
        if card.is_file():
            network = read_json(card)["network"]
        return [f"network: {_flow({**network, 'weights': str(Path(weights).absolute())})}"]
    finest = min(voxel_size_nm_xyz)
    sides = [(33, 8) if nm < 1.5 * finest else (17, 4) if nm < 3 * finest else (9, 2) for nm in voxel_size_nm_xyz]
    network = {"fov_xyz": [fov for fov, _ in sides], "deltas_xyz": [delta for _, delta in sides]}
    return ["# The field of view and its steps, in voxels.", f"network: {_flow(network)}"]
