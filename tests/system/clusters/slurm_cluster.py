"""A Slurm of its own for the tests: a controller and several virtual nodes, all on this machine.

It needs Debian's slurmctld, slurmd, slurm-client and munge, and nothing else: no systemd, cgroups, database or root. It
writes into one short-named folder, takes free ports, and its clients are found through the folder's bin/.

    python slurm_cluster.py       start one, print how to use it, and stop it at Ctrl-C
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CLIENTS = ("srun", "sbatch", "squeue", "scancel", "sinfo", "scontrol", "sacct")
DAEMONS = "/usr/sbin:/sbin"

CONFIGURATION = """\
ClusterName=test
# Names are not looked up: everybody is at 127.0.0.1.
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A job that is queued again waits until its credential has expired: two minutes by default.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
# Nodes on one machine must not share these: srun makes a folder in TmpFS named by job and step only.
SlurmdSpoolDir={folder}/spool/%n
TmpFS={folder}/tmp/%n
SlurmctldPidFile={folder}/pids/slurmctld
SlurmdPidFile={folder}/pids/slurmd-%n
SlurmctldLogFile={folder}/logs/slurmctld
SlurmdLogFile={folder}/logs/slurmd-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# The nodes' processors and memory are made up.
SlurmdParameters=config_overrides
# A node that was set down stays down.
ReturnToService=1
# Without a database the queue itself must remember how jobs ended.
MinJobAge=3600
# Jobs over their limit end soon, and waiting ones start soon.
KillWait=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdTimeout=10
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{node_ports}] CPUs={cpus} RealMemory=64000
PartitionName=all Nodes=ALL Default=YES DefMemPerCPU=100 State=UP
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:{DAEMONS}")]


class SlurmCluster:
    """A running cluster; a context manager that stops it."""

    def __init__(self, nodes: int = 4, cpus: int = 4) -> None:
        # Unix sockets have short names.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
        self.nodes, self.cpus = nodes, cpus
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            # Nodes that are one machine would find each other's ranks in its shared memory.
            "OMPI_MCA_btl": "self,tcp",
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}:{DAEMONS}",
        }

    def __enter__(self) -> SlurmCluster:
        try:
            self._write()
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write(self) -> None:
        for name in ("bin", "logs", "munge", "pids", "state"):
            (self.folder / name).mkdir()
        for node in range(1, self.nodes + 1):
            (self.folder / "spool" / f"n{node}").mkdir(parents=True)
            (self.folder / "tmp" / f"n{node}").mkdir(parents=True)
        self.folder.chmod(0o755)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(256))
        key.chmod(0o600)
        # Snakemake's Slurm jobs lose SLURM_CONF on the way: the clients bring it along.
        client = self.folder / "bin" / ".client"
        client.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec /usr/bin/"${{0##*/}}" "$@"\n')
        client.chmod(0o755)
        for name in CLIENTS:
            (self.folder / "bin" / name).symlink_to(".client")
        first = free_ports(self.nodes + 1)
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                folder=self.folder,
                host=socket.gethostname().partition(".")[0],
                user=getpass.getuser(),
                nodes=self.nodes,
                cpus=self.cpus,
                controller_port=first,
                node_ports=f"{first + 1}-{first + self.nodes}",
            )
        )

    def start(self) -> None:
        """Start every daemon and wait until all nodes are up."""
        munge = self.folder / "munge"
        self.run(
            "munged",
            *(f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={self.folder}/pids/munged"),
            *(f"--log-file={munge}/log", f"--seed-file={munge}/seed"),
        )
        self.run("slurmctld")
        for node in range(1, self.nodes + 1):
            self.run("slurmd", "-N", f"n{node}")
        until = time.monotonic() + 60
        # A controller that has only just started, on a busy machine, may hang up on who asks.
        while len(self.run("sinfo", "-hN", "-tidle", "-o%N", ok=False).split()) < self.nodes:
            assert time.monotonic() < until, f"the cluster did not come up; see {self.folder}/logs"
            time.sleep(0.2)

    def stop(self) -> None:
        """Cancel what runs and end every daemon."""
        if (self.folder / "pids" / "slurmctld").exists():
            self.run("scancel", f"--user={getpass.getuser()}", ok=False)
            until = time.monotonic() + 15
            while self.run("squeue", "-h", ok=False).strip() and time.monotonic() < until:
                time.sleep(0.2)
        # munged last: it vouches for the others.
        for path in sorted((self.folder / "pids").glob("*"), key=lambda path: path.name == "munged"):
            _end(int(path.read_text()), path.name.partition("-")[0])
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str, ok: bool = True) -> str:
        """What a command prints that sees this cluster."""
        run = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0 or not ok, f"{command}: {run.stderr}"
        return run.stdout


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    for first in range(16800, 32000, 20):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("0.0.0.0", port))
        except OSError:
            continue
        return first
    raise OSError("no free ports")


def _end(pid: int, name: str) -> None:
    """End a process, if it still is that program, and wait for it."""

    def alive() -> bool:
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        except FileNotFoundError:
            return False
        return f"({name}" in words[0] and words[2].split()[0] != "Z"

    if alive():
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 10
    while alive():
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


if __name__ == "__main__":
    with SlurmCluster() as cluster:
        print(f"export SLURM_CONF={cluster.folder}/slurm.conf PATH={cluster.folder}/bin:$PATH", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
