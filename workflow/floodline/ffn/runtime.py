"""TensorFlow, imported where it is needed and nowhere else, so that other commands start at once."""

from __future__ import annotations

from typing import Any


def tensorflow() -> Any:
    """The TensorFlow module.

    The number of threads comes from the environment (TF_NUM_INTRAOP_THREADS, TF_NUM_INTEROP_THREADS), which the
    launcher sets. XLA stays off: on processors it makes this network ten times slower.
    """
    import tensorflow as tf

    return tf
