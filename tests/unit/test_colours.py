"""Colours are told apart by colour-blind people."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from skimage.color import rgb2lab

from floodline.publishing.colours import PALETTE, rgb
from floodline.publishing.curves import COLOURS
from floodline.publishing.places import MERGER, SPLIT

# G. M. Machado, M. M. Oliveira and L. A. F. Fernandes, A physiologically-based model for simulation of color vision
# deficiency, IEEE TVCG 15 (2009): severity 1, on linear red, green and blue.
BLIND = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def seen(colours: tuple[str, ...], eye: str) -> np.ndarray:
    """L*a*b* of what an eye makes of colours."""
    linear = np.array([rgb(colour) for colour in colours]) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    made = (linear @ np.array(BLIND[eye]).T).clip(0, 1)
    shown = np.where(made <= 0.0031308, made * 12.92, 1.055 * made ** (1 / 2.4) - 0.055)
    return rgb2lab(shown[None])[0]


def nearest(colours: tuple[str, ...], eye: str) -> float:
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(seen(colours, eye), 2))


@pytest.mark.parametrize("eye", BLIND)
@pytest.mark.parametrize("colours", [PALETTE, COLOURS, (MERGER, SPLIT)], ids=["objects", "curves", "mistakes"])
def test_any_two_differ_for_every_eye(colours, eye):
    """A difference of 2.3 is just noticeable, side by side (Mahy et al., 1994)."""
    assert nearest(colours, eye) > 3 * 2.3


def test_red_and_green_would_not_do():
    assert nearest(("#e05050", "#80a030"), "deuteranopia") < nearest(("#e05050", "#80a030"), "none") / 2
