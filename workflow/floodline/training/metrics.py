"""The published metrics: voxels of finished patches, predicted and true, at a probability of 0.9.

google/ffn calls them eval/accuracy, eval/precision and so on, though its patches are the training's own, those finished
since the last summary. Here they have the same meaning for the training's patches, and the same definition serves
held-out ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from floodline.training.movement import MOVE, Patch, logit


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


@dataclass
class Counts:
    """Sums over patches: true positives, false positives, false negatives, true negatives; the patches' losses (mean
    cross-entropy of each), and how many patches there were."""

    sums: np.ndarray = field(default_factory=lambda: np.zeros(6))

    def add(self, patch: Patch) -> None:
        """Count a finished patch: its logits against its soft labels."""
        window = patch.scored()
        logits, target = patch.canvas[window], patch.example.target[window]
        if patch.example.counted is not None:
            counted = patch.example.counted[window]
            logits, target = logits[counted], target[counted]
        if target.size == 0:
            return
        predicted, true = logits >= logit(MOVE), target > 0.5
        positive, hit = int(predicted.sum()), int((predicted & true).sum())
        wanted = int(true.sum())
        loss = np.mean(np.maximum(logits, 0) - logits * target + np.log1p(np.exp(-np.abs(logits))), dtype=np.float64)
        self.sums += (hit, positive - hit, wanted - hit, true.size - positive - wanted + hit, loss, 1)

    def scores(self) -> dict[str, float]:
        """Accuracy, precision, recall, specificity, F1 and the mean patch loss; 0 where nothing was counted."""
        hit, false_positive, missed, rejected, loss, patches = self.sums
        return {
            "accuracy": _ratio(hit + rejected, hit + false_positive + missed + rejected),
            "precision": _ratio(hit, hit + false_positive),
            "recall": _ratio(hit, hit + missed),
            "specificity": _ratio(rejected, rejected + false_positive),
            "f1": _ratio(2 * hit, 2 * hit + false_positive + missed),
            "patch_loss": _ratio(loss, patches),
        }
