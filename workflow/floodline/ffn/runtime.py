"""TensorFlow, imported where it is needed and nowhere else, so that other commands start at once."""

from __future__ import annotations

import os
from typing import Any


def tensorflow() -> Any:
    """The TensorFlow module.

    The number of threads comes from the environment (TF_NUM_INTRAOP_THREADS, TF_NUM_INTEROP_THREADS), which the
    launcher sets. XLA stays off: on processors it makes this network ten times slower. oneDNN is switched on, which
    TensorFlow does by itself on new processors only: on one without AVX-512, steps of training take up to five times as
    long without it, and calls of the network half as long again.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import tensorflow as tf

    return tf
