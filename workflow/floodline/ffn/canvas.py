"""The canvas: what a flood has predicted so far, and what earlier floods have claimed, in one sub-volume.

Semantics of the update and of the stored probabilities follow google/ffn at commit 5637f78 (its `Canvas`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit

from floodline.config import Flood
from floodline.ffn.restriction import Restriction
from floodline.geometry import Triple, to_zyx, triple

# A voxel below this logit (probability 1/2) is a "no", which the disco rule never lets turn into a "yes".
UNDECIDED = np.float32(0)
FAILED = -1  # in the segmentation, where a seed failed
CERTAIN = 255  # the highest quantised probability


def logit_of(probability: float) -> np.float32:
    """Logit of an option's probability; options are single precision, as in the published requests."""
    return np.float32(logit(float(np.float32(probability))))


def quantise(logits: np.ndarray) -> np.ndarray:
    """Probabilities as uint8: 1 .. 255 in equal steps; 0 is left for voxels that belong to no object."""
    return np.digitize(expit(logits), np.linspace(0.0, 1.0, 255)).astype(np.uint8)


def dequantise(quantised: np.ndarray) -> np.ndarray:
    """Probabilities in 0..1 (float32) from `quantise`'s bytes; NaN where there is none."""
    return np.where(quantised == 0, np.float32(np.nan), (quantised.astype(np.float32) - 0.5) / 255)


class Canvas:
    """State of the floods of one sub-volume; every array is z, y, x. Eight bytes a voxel, the image included.

    Attributes:
        image: grey values as stored (uint8); normalised patch by patch, which costs less than a float32 copy.
        seed: float32 logits of the object being flooded; NaN = not visited.
        segmentation: int16, or int32 when ids do not fit; > 0 = id of an object; 0 and below = free. Of a free voxel,
            -1 = a seed failed here, and -1 - id = its candidate, the object whose flood held it most probable.
        qprob: uint8 quantised probability of the object that owns the voxel, or of its candidate.
        restriction: where floods may not go.
    """

    def __init__(
        self,
        image: np.ndarray,
        mean: float,
        stddev: float,
        fov_xyz: Sequence[int],
        options: Flood,
        restriction: Restriction = Restriction(),
    ) -> None:
        self.image = image
        self.restriction = restriction
        self.mean, self.stddev = np.float32(mean), np.float32(stddev)
        self.shape: Triple = to_zyx(to_zyx(image.shape))
        self.fov = to_zyx(fov_xyz)
        self.margin = to_zyx([size // 2 for size in fov_xyz])
        self.clear()
        self.segmentation = np.zeros(image.shape, dtype=np.int16)
        self.qprob = np.zeros(image.shape, dtype=np.uint8)
        self.init = logit_of(options.init_activation)
        self.pad = logit_of(options.pad_value)
        self.move = logit_of(options.move_threshold)
        self.segment = logit_of(options.segment_threshold)
        self.candidate = logit_of(options.candidate_threshold)
        self.disco = options.disco_seed_threshold

    def clear(self) -> None:
        """Forget what was predicted."""
        self.seed = np.full(self.shape, np.nan, dtype=np.float32)

    def keep(self, segmentation: np.ndarray) -> None:
        """Take objects (ids from 1 on) from elsewhere, as certain as can be: floods never change them."""
        self.make_room_for(int(segmentation.max(initial=0)))
        self.segmentation[:] = segmentation
        self.qprob[segmentation > 0] = CERTAIN

    def make_room_for(self, identifier: int) -> None:
        """Take wider numbers if this id needs them; between floods, when there is no prediction to lose."""
        if FAILED - identifier < np.iinfo(self.segmentation.dtype).min:
            del self.seed  # its memory is what the wider copy takes
            self.segmentation = self.segmentation.astype(np.int32)
            self.clear()

    def objects(self) -> np.ndarray:
        """The ids of the objects, int32; 0 where there is none."""
        return np.maximum(self.segmentation, 0, dtype=np.int32)

    def fits(self, position: Triple) -> bool:
        """Whether the field of view around a position (z, y, x) lies inside the sub-volume."""
        return all(m <= p < s - m for p, m, s in zip(position, self.margin, self.shape, strict=True))

    def nearest_fitting(self, position: Triple) -> Triple:
        """The position (z, y, x) nearest to this one around which the field of view fits."""
        return triple(min(max(p, m), s - m - 1) for p, m, s in zip(position, self.margin, self.shape, strict=True))

    def window(self, position: Triple) -> tuple[slice, slice, slice]:
        """The field of view around a position (z, y, x)."""
        z, y, x = (slice(p - m, p + m + 1) for p, m in zip(position, self.margin, strict=True))
        return z, y, x

    def mask(self, window: tuple[slice, slice, slice]) -> np.ndarray:
        """Voxels of a window that the object being flooded holds, others' included; boolean."""
        with np.errstate(invalid="ignore"):
            return self.seed[window] >= self.segment

    def claim(self, window: tuple[slice, slice, slice], identifier: int) -> None:
        """Give the free voxels of a window that the object being flooded holds its id, and note it where it is weaker.

        The candidate of a free voxel is the object with the highest quantised probability; of equal ones the first.
        """
        segmentation, qprob = self.segmentation[window], self.qprob[window]
        mask = self.mask(window) & (segmentation <= 0)
        segmentation[mask] = identifier
        qprob[mask] = quantise(self.seed[window][mask])
        with np.errstate(invalid="ignore"):
            weak = (self.seed[window] >= self.candidate) & (segmentation <= 0) & (segmentation != FAILED)
        found = quantise(self.seed[window][weak])
        better = found > qprob[weak]
        segmentation[weak] = np.where(better, FAILED - identifier, segmentation[weak])
        qprob[weak] = np.where(better, found, qprob[weak])

    def mark_failed(self, position: Triple) -> None:
        """Note that a seed failed at a free voxel."""
        if self.segmentation[position] <= 0:
            self.segmentation[position], self.qprob[position] = FAILED, 0

    def network_input(self, position: Triple) -> tuple[np.ndarray, np.ndarray]:
        """Normalised image and seed logits in the field of view, the unvisited voxels padded; float32 copies."""
        window = self.window(position)
        image = (self.image[window].astype(np.float32) - self.mean) / self.stddev
        seed = self.seed[window].copy()
        seed[np.isnan(seed)] = self.pad
        return image, seed

    def update(self, position: Triple, logits: np.ndarray) -> np.ndarray:
        """Write the network's logits (FOV shape) into the canvas and return what was written.

        The disco rule ("disconnected once, disconnected for ever"): where the object is active enough, a voxel that
        was already improbable cannot become more probable. Unvisited voxels are free: comparisons with NaN are false.
        """
        window = self.window(position)
        old = self.seed[window]
        if self.disco >= 0 and np.mean(logits >= self.move) > self.disco:
            with np.errstate(invalid="ignore"):
                frozen = (old < UNDECIDED) & (logits > old)
            logits = np.where(frozen, old, logits)
        self.seed[window] = logits
        return logits
