"""Which arithmetic this processor is quick at, found out from the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from floodline.config import Inference

Precision = Literal["float32", "bfloat16"]

BFLOAT16_FEATURES = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}
"""Names under which x86 (avx512_bf16, amx_bf16, avx_ne_convert) and ARM (bf16) kernels report bfloat16 arithmetic."""


def processor_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Instruction sets of the first processor, as Linux names them; empty where the system does not tell."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return set()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(value.split())
    return set()


def of_inference(wanted: Inference) -> Precision:
    """The arithmetic of inference: the policy `reference` is float32 unless another one is asked for."""
    if wanted.flood.policy == "reference" and wanted.precision == "auto":
        return "float32"
    return resolve(wanted.precision)


def resolve(wanted: Literal["float32", "bfloat16", "auto"], features: set[str] | None = None) -> Precision:
    """The arithmetic to use: as wanted; `auto` is bfloat16 where the processor computes in it, else float32.

    bfloat16 works on any processor, only slowly where it has to be emulated.
    """
    if wanted != "auto":
        return wanted
    features = processor_features() if features is None else features
    return "bfloat16" if features & BFLOAT16_FEATURES else "float32"
