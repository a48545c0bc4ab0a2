"""Horovod's all-reduce, measured: ranks of this machine through MPI, and ranks in network namespaces with slow links.

    .venv/bin/python benchmarks/allreduce.py [--rates 1gbit 100mbit]

Every rank of a namespace has its own link to a bridge, and `tc` limits what it may send. Needs root, `ip` and `tc` for
these; without them only the ranks of this machine are measured. Beside each time stands that of the model in
floodline.studies.scaling, whose overhead and latency come from two ranks on the fastest link and whose bandwidth, on
slow links, is what the link was given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from floodline.parallel import LAUNCHER_ENVIRONMENT, training_ranks
from floodline.studies.scaling import Model

SIZES = (1_000, 64_000, 638_433, 4_000_000)
"""Gradients, four bytes each; 638,433 are those of the published network."""

SECONDS = 2.0
Times = dict[int, float]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", nargs="*", default=["1gbit", "100mbit"], help="limits of the links, as tc has them")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        measure()
        return
    print("link            ranks   gradients   measured ms    model ms", flush=True)
    alone, two, four = (with_mpi(ranks) for ranks in (1, 2, 4))
    model = fitted(alone, two, None)
    for ranks, times in ((1, alone), (2, two), (4, four)):
        show("this machine", ranks, times, model, alone)
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        print("links with limits were not measured: that needs root, ip and tc")
        return
    free = with_links(2, None)
    model = fitted(alone, free, None)
    for rate in (None, *arguments.rates):
        limited = model if rate is None else Model(own=1.0, latency=model.latency, bandwidth=bytes_a_second(rate))
        for ranks in (2, 4):
            times = free if (ranks, rate) == (2, None) else with_links(ranks, rate)
            show(rate or "no limit", ranks, times, limited, alone)


def fitted(alone: Times, two: Times, bandwidth: float | None) -> Model:
    """Latency and bandwidth from two ranks: what a message takes more than with one rank is 2 hops and its bytes."""
    sizes = np.array(list(two))
    more = np.array([two[size] - alone[size] for size in two])
    slope, offset = np.polyfit(4.0 * sizes, more, 1, w=1 / np.array(list(two.values())))
    return Model(own=1.0, latency=max(0.0, float(offset)) / 2, bandwidth=bandwidth or 1 / max(1e-12, float(slope)))


def show(link: str, ranks: int, times: Times, model: Model, alone: Times) -> None:
    for size, seconds in times.items():
        one = Model(own=1.0, latency=model.latency, bandwidth=model.bandwidth, messages=1, gradient_bytes=4.0 * size)
        expected = alone[size] + (one.reduce(ranks) if ranks > 1 else 0.0)
        print(f"{link:14s}  {ranks:5d}  {size:10,d}  {1000 * seconds:12.2f}  {1000 * expected:10.2f}", flush=True)


def bytes_a_second(rate: str) -> float:
    units = {"gbit": 1e9, "mbit": 1e6, "kbit": 1e3}
    unit = next(name for name in units if rate.endswith(name))
    return float(rate.removesuffix(unit)) * units[unit] / 8


# --- a rank ----------------------------------------------------------------------------------------------------------


def measure() -> None:
    """All-reduce vectors of each size for a while; rank 0 prints the median seconds by size."""
    import horovod.tensorflow as horovod
    import tensorflow as tf

    ranks = training_ranks()
    if ranks.size == 1:
        horovod.init()
    times: Times = {}
    for size in SIZES:
        vector = tf.constant(np.ones(size, np.float32))
        reduce = tf.function(lambda values: horovod.allreduce(values, op=horovod.Average, name="gradients"))
        for _ in range(5):
            reduce(vector)
        # All ranks make the same number of rounds, as many as the first finds time for.
        began = time.monotonic()
        reduce(vector).numpy()
        rounds = int(np.clip(SECONDS / (time.monotonic() - began), 5, 300))
        rounds = int(horovod.broadcast(np.array(rounds), root_rank=0).numpy())
        seconds = []
        for _ in range(rounds):
            began = time.monotonic()
            assert float(reduce(vector)[0]) == 1
            seconds.append(time.monotonic() - began)
        times[size] = float(np.median(seconds))
    if ranks.rank == 0:
        print("times", json.dumps(times), flush=True)


def worker() -> list[str]:
    return [sys.executable, __file__, "--worker"]


def times_in(output: str) -> Times:
    line = next(line for line in output.splitlines() if line.startswith("times "))
    return {int(size): seconds for size, seconds in json.loads(line.removeprefix("times ")).items()}


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **LAUNCHER_ENVIRONMENT, "TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", **more}


def with_mpi(ranks: int) -> Times:
    """Ranks of this machine, as Open MPI connects them."""
    mpirun = [str(Path(sys.executable).with_name("mpirun")), "-n", str(ranks)]
    done = subprocess.run([*mpirun, *worker()], env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return times_in(done.stdout)


# --- ranks on links of their own -------------------------------------------------------------------------------------


def with_links(ranks: int, rate: str | None) -> Times:
    """Ranks in network namespaces, connected by Gloo over links that send `rate` at most."""
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
    from horovod.runner.http.http_server import RendezvousServer

    with namespaces(ranks, rate) as names:
        slots = get_host_assignments(parse_hosts(",".join(f"{address(i)}:1" for i in range(ranks))), ranks)
        server = RendezvousServer()
        port = server.start()
        server.init(slots)
        processes = []
        for name, slot in zip(names, slots, strict=True):
            own = {**create_run_env_vars(GATEWAY, [LINK], port), **create_slot_env_vars(slot)}
            own = {key: str(value) for key, value in own.items()}
            command = ["ip", "netns", "exec", name, *worker()]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            processes.append(subprocess.Popen(command, env=environment(**own), **pipes))
        outputs = [process.communicate()[0] for process in processes]
        server.stop()
    if any(process.returncode for process in processes):
        raise SystemExit("\n".join(outputs))
    return times_in(outputs[0])


BRIDGE, LINK, GATEWAY = "floodline-b", "eth0", "10.213.0.254"


def address(rank: int) -> str:
    return f"10.213.0.{rank + 1}"


@contextlib.contextmanager
def namespaces(ranks: int, rate: str | None) -> Iterator[list[str]]:
    """Network namespaces on a bridge, each with a link that sends `rate` at most; removed at the end."""
    names = [f"floodline-{rank}" for rank in range(ranks)]
    try:
        run(f"ip link add {BRIDGE} type bridge")
        run(f"ip addr add {GATEWAY}/24 dev {BRIDGE}")
        run(f"ip link set {BRIDGE} up")
        for rank, name in enumerate(names):
            inside = f"ip netns exec {name}"
            run(f"ip netns add {name}")
            # What a process of the namespace sees as /etc/hosts: Gloo listens at the address of its host's name.
            hosts(name).parent.mkdir(parents=True, exist_ok=True)
            hosts(name).write_text(f"127.0.0.1 localhost\n{address(rank)} {socket.gethostname()}\n")
            run(f"ip link add {name} type veth peer name {LINK} netns {name}")
            run(f"ip link set {name} master {BRIDGE} up")
            run(f"{inside} ip addr add {address(rank)}/24 dev {LINK}")
            run(f"{inside} ip link set {LINK} up")
            run(f"{inside} ip link set lo up")
            if rate is not None:
                run(f"{inside} tc qdisc add dev {LINK} root tbf rate {rate} burst 64kb latency 200ms")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
            shutil.rmtree(hosts(name).parent, ignore_errors=True)
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)


def hosts(namespace: str) -> Path:
    return Path("/etc/netns") / namespace / "hosts"


def run(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr.strip()}")


if __name__ == "__main__":
    main()
