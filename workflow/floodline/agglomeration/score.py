"""The score of a contact: how probable it is that its two supervoxels are one neuron.

It is a logistic function of six things:

    evidence = CONSTANT
             + CONTRAST * max(contrast, FLAT) * contact_area / (contact_area + FEW_FACES)
             + SHARE * sqrt(contact_share)
             + DARKNESS * (max(intensity_a, intensity_b) - intensity)
             + OVERLAP * max(flood_a, flood_b, neighbour_a, neighbour_b)
             + PASS * max(pass_a, pass_b)
    score    = 1 / (1 + exp(-evidence))

- *Contrast* is that of a membrane: a dark sheet between two brighter sides. Where there is none, it is that of noise,
  `FLAT`; less than that is the edge of something else, and says nothing more. A mean over few faces is drawn to 0.
- *Share*: the pieces of one neurite touch with much of their surface, two neighbours with some of it.
- *Darkness* of the contact against the brighter supervoxel. A segment that lies inside a membrane is as dark as its
  contacts, and shows no contrast there.
- *Overlap*: how far the flood of one covered the other. Contacts without that evidence have 0 there.
- *Pass*: how far one pass of a split consensus held both in one object.

The coefficients of the image's features come from logistic regression, rounded, in which a false merger counts three
times a missed one: it is harder to find and to mend. So a score of 0.5 asks for odds of about three to one. It was
fitted to the published segmentation of FIB-25 (z 0 to 74; it counts most) as it is and cut by random planes, and to
generated volumes cut in the same way, all with reach 2 and profile 3. `OVERLAP` is set by hand: alone, even an overlap
of 1 does not outweigh a membrane. So is `PASS`, near the value that suits FIB-25 best (z 0 to 104, two passes over z 0
to 165): of the parts that one pass alone held together, four of five belong together.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

CONSTANT = -2.3
CONTRAST = -11.0
SHARE = 3.3
DARKNESS = -2.6
OVERLAP = 4.0
PASS = 2.0
FLAT = -0.25
FEW_FACES = 100


def score(edges: pd.DataFrame) -> np.ndarray:
    """The scores of contacts.

    Args:
        edges: features, as features.py names them.

    Returns:
        float64, 0 to 1, one a row.
    """
    area = edges["contact_area"].to_numpy(np.float64)
    contrast = np.maximum(edges["contrast"].to_numpy(np.float64), FLAT) * area / (area + FEW_FACES)
    darkness = edges[["intensity_a", "intensity_b"]].max(axis=1) - edges["intensity"]
    overlap = edges[["flood_a", "flood_b", "neighbour_a", "neighbour_b"]].max(axis=1)
    evidence = (
        CONSTANT
        + CONTRAST * contrast
        + SHARE * np.sqrt(edges["contact_share"])
        + DARKNESS * darkness
        + OVERLAP * overlap
        + PASS * edges[["pass_a", "pass_b"]].max(axis=1)
    )
    return expit(evidence.to_numpy(np.float64))
