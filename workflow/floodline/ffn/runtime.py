"""TensorFlow, imported where it is needed and nowhere else, so that other commands start at once."""

from __future__ import annotations

import os
from typing import Any


def tensorflow() -> Any:
    """The TensorFlow module, without its greeting.

    The number of threads comes from the environment (TF_NUM_INTRAOP_THREADS, TF_NUM_INTEROP_THREADS), which the
    launcher sets. XLA stays off: on processors it makes this network ten times slower.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    import tensorflow as tf

    return tf
