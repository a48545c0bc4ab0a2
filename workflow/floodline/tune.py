"""`floodline tune`: what floods fastest on this machine, measured in under a minute.

1. A few updates of a flood are made by TensorFlow in float32; every other choice must repeat them.
2. Every runtime and precision that there is here is timed on all cores, alone, with one field of view a call.
3. The fastest one that agrees is timed with larger batches, and with the cores divided between several processes.

Each step runs in fresh processes, because a runtime takes its number of threads once, when it is loaded.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np

from floodline import config as configuration
from floodline.errors import FloodlineError
from floodline.ffn.openvino import is_installed
from floodline.ffn.precision import Precision, resolve
from floodline.ffn.runtimes import Runtime
from floodline.manifest import write_json

SECONDS = 2.0
"""Of each timing."""
UPDATES = 3
LARGEST_DIFFERENCE = 0.005
"""Share of the voxels that may fall on the other side of the segment threshold than with TensorFlow in float32."""
BATCHES = (2, 4)
PATIENCE = 120.0
"""Seconds after which a process that does not answer is given up."""


@dataclass(frozen=True)
class Choice:
    """One way of computing the network; `processes` share the cores."""

    runtime: Runtime
    precision: Precision
    batch: int = 1
    processes: int = 1


@dataclass(frozen=True)
class Measurement:
    """What a choice gave: fields of view a second of all processes, and the share of voxels decided otherwise."""

    choice: Choice
    rate: float
    differing: float

    @property
    def agrees(self) -> bool:
        return self.differing <= LARGEST_DIFFERENCE


@dataclass(frozen=True)
class Subject:
    """The network that is timed; a folder model/ or checkpoint with its weights, or None for random ones."""

    network: configuration.Network
    flood: configuration.Flood
    weights: str | None


def subject_of(path: Path | None) -> Subject:
    """From a configuration or an experiment's folder; without one, the published network with random weights.

    Raises:
        FloodlineError: it is neither.
    """
    if path is None:
        return Subject(configuration.Network(), configuration.Flood(), None)
    config = configuration.load(path / "config.yaml" if path.is_dir() else path)
    model = path / "model"
    trained = str(model) if (model / "card.json").is_file() else config.network.weights
    return Subject(config.network, config.inference.flood, trained)


def run(path: Path | None, output: Path | None) -> None:
    """Measure, print a table and what to do with it, and write the numbers to `output` if wanted."""
    subject = subject_of(path)
    cores = len(os.sched_getaffinity(0))
    print("runtime     precision  batch  processes  threads  FOV/s   decided otherwise")
    measured = [_shown(one, cores) for one in _time(subject, _runtimes(), cores)]
    best = fastest(measured)
    for processes in (1, *_divisions(cores)):
        batches = (1, *BATCHES) if processes == 1 else (1,)
        choices = [replace(best.choice, batch=batch, processes=processes) for batch in batches]
        new = [choice for choice in choices if choice != best.choice]
        measured += [_shown(one, cores) for one in (_time(subject, new, cores) if new else [])]
    best = fastest(measured)
    print(_advice(best))
    if output is not None:
        write_json(output, _numbers(best, subject, cores))


def fastest(measured: Sequence[Measurement]) -> Measurement:
    """The fastest that agrees with TensorFlow in float32, which is the first."""
    return max((one for one in measured if one.agrees), key=lambda one: one.rate)


def _runtimes() -> list[Choice]:
    """TensorFlow in float32 first; bfloat16 where the processor has it."""
    precisions: tuple[Precision, ...] = ("float32", "bfloat16") if resolve("auto") == "bfloat16" else ("float32",)
    runtimes: tuple[Runtime, ...] = ("tensorflow", "openvino") if is_installed() else ("tensorflow",)
    return [Choice(runtime, precision) for runtime in runtimes for precision in precisions]


def _divisions(cores: int) -> list[int]:
    """Numbers of processes that share the cores, with one thread each, with two, and with eight."""
    return sorted({cores // threads for threads in (1, 2, 8) if cores // threads > 1})


def _shown(one: Measurement, cores: int) -> Measurement:
    choice = one.choice
    print(
        f"{choice.runtime:10s}  {choice.precision:9s}  {choice.batch:5d}  {choice.processes:9d}"
        f"  {max(1, cores // choice.processes):7d}  {one.rate:6.2f}  {one.differing:.2%}"
        f"{'' if one.agrees else '  too much'}",
        flush=True,
    )
    return one


def _advice(best: Measurement) -> str:
    choice = best.choice
    per_hour = best.rate * 3600
    return (
        f"\nUse  inference: {{runtime: {choice.runtime}, precision: {choice.precision}}}  in the configuration, and\n"
        f"`floodline infer --workers {choice.processes} --batch {choice.batch}`, or in a profile  set-resources: "
        f"{{flood: {{workers: {choice.processes}, batch: {choice.batch}}}}}.\n"
        f"Expect {best.rate:.1f} fields of view a second: {per_hour:,.0f} an hour."
    )


def _numbers(best: Measurement, subject: Subject, cores: int) -> dict[str, Any]:
    choice = best.choice
    return {
        "fov_per_second": {"inference": round(best.rate, 3)},
        "cores": cores,
        "runtime": choice.runtime,
        "precision": choice.precision,
        "batch": choice.batch,
        "workers": choice.processes,
        "network": subject.network.without_weights(),
    }


# --- timing ----------------------------------------------------------------------------------------------------------


def _time(subject: Subject, choices: Sequence[Choice], cores: int) -> list[Measurement]:
    """Time choices of the same number of processes, one after another, in fresh processes that keep step.

    Raises:
        FloodlineError: a process failed, as one does whose weights are missing or of another network.
    """
    context = multiprocessing.get_context("spawn")
    processes = choices[0].processes
    barrier, answers = context.Barrier(processes), context.Queue()
    threads = max(1, cores // processes)
    crew = [
        context.Process(target=_measure, args=(subject, list(choices), threads, SECONDS, barrier, answers), daemon=True)
        for _ in range(processes)
    ]
    for process in crew:
        process.start()
    told = []
    try:
        for _ in crew:
            told.append(_answer(answers, crew))
    finally:
        for process in crew:
            process.terminate()
            process.join()
    return [
        Measurement(choice, sum(rates[i] for rates, _ in told), max(differing[i] for _, differing in told))
        for i, choice in enumerate(choices)
    ]


def _answer(answers: Any, crew: Sequence[SpawnProcess]) -> tuple[list[float], list[float]]:
    """What the next process has measured."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answer = answers.get(timeout=1)
        except Empty:
            if any(process.exitcode for process in crew) or time.monotonic() > deadline:
                sentence = f"the network could not be timed in {len(crew)} processes: one of them ended, or hangs."
                raise FloodlineError(sentence) from None
            continue
        if isinstance(answer, FloodlineError):
            raise answer
        return answer


def _measure(subject: Subject, choices: list[Choice], threads: int, seconds: float, barrier: Any, answers: Any) -> None:
    """Life of a process that times, and answers with what it has measured, or why it could not."""
    os.environ |= {"TF_NUM_INTRAOP_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        answers.put(_rates(subject, choices, seconds, barrier))
    except FloodlineError as error:
        answers.put(error)
    except Exception as error:
        answers.put(FloodlineError(f"the network could not be timed ({error})."))


def _rates(subject: Subject, choices: list[Choice], seconds: float, barrier: Any) -> tuple[list[float], list[float]]:
    """For every choice its rate and the share of voxels that it decides otherwise."""
    from floodline.ffn import weights
    from floodline.ffn.canvas import logit_of
    from floodline.ffn.network import initial_weights
    from floodline.ffn.runtimes import inference_network

    network = subject.network
    values = weights.load(subject.weights) if subject.weights else initial_weights(network, np.random.default_rng(0))
    images, seeds, expected = _updates(subject, inference_network(values, network, "float32", "tensorflow"))
    rates, differing = [], []
    for choice in choices:
        predict = inference_network(values, network, choice.precision, choice.runtime)
        image, seed = (np.repeat(patches[:1], choice.batch, axis=0) for patches in (images, seeds))
        decided = np.concatenate([predict(images[i : i + 1], seeds[i : i + 1]) for i in range(UPDATES)])
        threshold = logit_of(subject.flood.segment_threshold)
        differing.append(float(((decided >= threshold) != (expected >= threshold)).mean()))
        predict(image, seed)  # a new shape is compiled
        barrier.wait(PATIENCE)
        calls, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            predict(image, seed)
            calls += 1
        rates.append(calls * choice.batch / (time.monotonic() - began))
    return rates, differing


def _updates(subject: Subject, predict: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first updates of a flood in a generated volume: images, seed logits, and new logits; (UPDATES, z, y, x)."""
    from floodline.ffn.canvas import Canvas
    from floodline.geometry import to_zyx
    from floodline.volumes import phantom

    fov_xyz = subject.network.fov_xyz
    image = phantom.image(to_zyx(fov_xyz), 0)
    canvas = Canvas(image, float(image.mean()), float(image.std()), fov_xyz, subject.flood)
    centre = canvas.margin
    canvas.seed[centre] = canvas.init
    images, seeds, logits = [], [], []
    for _ in range(UPDATES):
        patch, seed = canvas.network_input(centre)
        new = predict(patch[None], seed[None])[0]
        images.append(patch)
        seeds.append(seed)
        logits.append(new)
        canvas.update(centre, new)
    return np.stack(images), np.stack(seeds), np.stack(logits)
