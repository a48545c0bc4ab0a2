"""The published metrics: voxels of finished training patches, predicted and true, at a probability of 0.9."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from floodline.training.movement import MOVE, logit


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


@dataclass
class Counts:
    """Sums over the patches finished since the last summary: true and false positives and negatives."""

    sums: np.ndarray = field(default_factory=lambda: np.zeros(4))

    def add(self, canvas: np.ndarray, target: np.ndarray) -> None:
        """Count a finished patch: its logits against its soft labels."""
        predicted, true = canvas >= logit(MOVE), target > 0.5
        positive, hit = int(predicted.sum()), int((predicted & true).sum())
        wanted = int(true.sum())
        self.sums += (hit, positive - hit, wanted - hit, true.size - positive - wanted + hit)

    def scores(self) -> dict[str, float]:
        """Accuracy, precision, recall and F1; 0 where nothing was counted."""
        hit, false_positive, missed, rejected = self.sums
        return {
            "accuracy": _ratio(hit + rejected, self.sums.sum()),
            "precision": _ratio(hit, hit + false_positive),
            "recall": _ratio(hit, hit + missed),
            "f1": _ratio(2 * hit, 2 * hit + false_positive + missed),
        }
