"""Ranks: one process alone, or synchronous workers that Horovod connects.

`mpirun`, `horovodrun`, `srun` and `aprun` all start the same command; what tells a worker that it is one of several is
the environment that its launcher gives it. With one worker Horovod is not loaded at all.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from floodline.allocation import OutOfTime
from floodline.errors import FloodlineError
from floodline.ffn.runtime import tensorflow

SIZES = (
    "HOROVOD_SIZE",  # horovodrun with Gloo
    "OMPI_COMM_WORLD_SIZE",  # Open MPI's mpirun, and horovodrun with it
    "PMI_SIZE",  # MPICH, Intel MPI and Cray PALS
    "SLURM_STEP_NUM_TASKS",  # srun; SLURM_NTASKS would also be set in a batch script that starts no task
)
"""Where launchers tell a worker how many there are."""

ALPS_RANK = "ALPS_APP_PE"
"""Cray's aprun tells a worker its rank, and leaves their number to MPI."""


@dataclass(frozen=True)
class Ranks:
    """This worker among all. `horovod` is the module that connects them; None where there is one worker."""

    rank: int = 0
    size: int = 1
    horovod: Any = None

    def mean(self, tensor: Any) -> Any:
        """The mean of a TensorFlow tensor over all workers, inside or outside of a tf.function."""
        if self.horovod is None:
            return tensor
        return self.horovod.allreduce(tensor, op=self.horovod.Average)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum of an array over all workers."""
        if self.horovod is None:
            return values
        return self.horovod.allreduce(values, op=self.horovod.Sum).numpy()

    def agree(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """The first worker's values, for all; float64."""
        own = np.array(values, np.float64)
        return self.sum(own if self.rank == 0 else np.zeros_like(own))

    def share(self, variables: Sequence[Any]) -> None:
        """Give every worker the first worker's values of TensorFlow variables."""
        if self.horovod is not None:
            self.horovod.broadcast_variables(variables, root_rank=0)

    def wait(self) -> None:
        """Wait until every worker is here."""
        self.sum(np.zeros(1, np.float32))

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is done in here fails for all workers as soon as it fails for one, which says why.

        Without this the others would wait for it in their next exchange.
        """
        try:
            yield
        except OutOfTime:
            raise  # all stop together
        except Exception as error:
            if self.horovod is None:
                raise
            if not isinstance(error, FloodlineError):
                if "horovod" in f"{type(error).__name__} {error}".lower():
                    error = FloodlineError("the connection to another rank is lost.")  # which says why
                else:
                    traceback.print_exc()
            print(f"floodline: rank {self.rank} of {self.size}: {error}", file=sys.stderr, flush=True)
            if self.horovod.mpi_enabled():
                from mpi4py import MPI

                MPI.COMM_WORLD.Abort(1)
            os._exit(1)  # horovodrun ends the others


def launched_by_many(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher started this process as one of several workers."""
    return ALPS_RANK in environment or any(size > 1 for size in _launched(environment))


def _launched(environment: Mapping[str, str]) -> list[int]:
    """How many workers there are, by each launcher that says so; the innermost first."""
    sizes = [environment.get(name, "") for name in SIZES]
    return [int(size) for size in sizes if size.isdigit()]


def check_connected(size: int, environment: Mapping[str, str] = os.environ) -> None:
    """See to it that the workers found each other: else each would take itself for the first.

    Raises:
        FloodlineError: the launcher started more workers than these `size`.
    """
    launched = max(_launched(environment), default=size)
    if size == 1 and launched > 1:
        raise FloodlineError(
            f"the launcher started {launched} workers, but MPI does not connect them: use the launcher of the MPI that "
            "floodline was installed with, or have srun speak its language (srun --mpi=pmix)."
        )


def training_ranks() -> Ranks:
    """This worker among those that the launcher started; one rank without Horovod where there was no launcher.

    Raises:
        FloodlineError: there are several workers, but Horovod cannot connect them.
    """
    if not launched_by_many():
        # Snakemake says with it how many cores the job has; TensorFlow would take all that there are.
        if "OMP_NUM_THREADS" in os.environ:
            os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ["OMP_NUM_THREADS"])
        return Ranks()
    _prepare(os.environ)
    tensorflow()  # Horovod would load it, without what runtime.py sets before
    try:
        import horovod.tensorflow as horovod

        horovod.init()
    except (ImportError, RuntimeError, ValueError) as error:
        raise FloodlineError(f"Horovod cannot connect the workers of this launcher ({error}).") from error
    check_connected(horovod.size())
    return Ranks(horovod.rank(), horovod.size(), horovod)


def _prepare(environment: MutableMapping[str, str]) -> None:
    """What MPI and TensorFlow read when they start, unless the launcher has set it.

    A rank that waits in Open MPI spins, and so takes the core from a rank that computes: with a computing rank on every
    core that costs up to 40 % of the speed, and yielding gives it back. TensorFlow's threads do not follow from
    OMP_NUM_THREADS: Snakemake says with it how many cores the job has, and all ranks of a node share these.
    """
    environment.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    on_this_node = int(environment.get("OMPI_COMM_WORLD_LOCAL_SIZE") or environment.get("HOROVOD_LOCAL_SIZE") or 1)
    threads = str(max(1, len(os.sched_getaffinity(0)) // on_this_node))
    for name, value in (("INTRAOP", threads), ("INTEROP", "1")):
        environment.setdefault(f"TF_NUM_{name}_THREADS", value)
    environment.setdefault("OMP_NUM_THREADS", threads)


LAUNCHER_ENVIRONMENT = {
    # The kernel places ranks and their threads: a fixed binding would put all threads of a rank on one core.
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    # A container may show fewer slots than it has cores; the number of ranks is the profile's decision.
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    # Open MPI refuses to run as root unless told twice; a container often has no other user.
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}
"""For Open MPI's mpirun, to be exported before it is called; other launchers ignore it."""
