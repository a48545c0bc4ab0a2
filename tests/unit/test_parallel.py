"""Ranks: what a launcher says of them, and what MPI and TensorFlow are told before they start."""

from __future__ import annotations

import os

import pytest

from floodline import parallel
from floodline.errors import FloodlineError
from floodline.parallel import check_connected, launched_by_many

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("environment", "many"),
    [
        ({}, False),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"HOROVOD_SIZE": "3"}, True),
        ({"PMI_SIZE": "4"}, True),
        ({"SLURM_STEP_NUM_TASKS": "5"}, True),
        ({"SLURM_NTASKS": "5"}, False),  # in a batch script that has started no task
        ({"ALPS_APP_PE": "0"}, True),  # aprun does not say how many there are
    ],
)
def test_a_launcher_of_many_is_known_by_what_it_tells_its_ranks(environment, many):
    assert launched_by_many(environment) == many


@pytest.mark.parametrize("size", [1, 2])
def test_ranks_that_are_connected_are_let_through(size):
    check_connected(size, {"OMPI_COMM_WORLD_SIZE": str(size)})
    check_connected(size, {})


def test_ranks_that_are_not_connected_are_one_sentence():
    with pytest.raises(FloodlineError, match="started 4 workers, but MPI does not connect them"):
        check_connected(1, {"SLURM_STEP_NUM_TASKS": "4"})


def test_a_waiting_rank_yields_its_core_and_cores_are_shared_out():
    environment = {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    parallel._prepare(environment)
    threads = str(max(1, CORES // 2))
    assert environment == {
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": "1",
        "OMP_NUM_THREADS": threads,
    }


def test_what_the_user_has_set_stays():
    wished = {"OMPI_MCA_mpi_yield_when_idle": "0", "TF_NUM_INTRAOP_THREADS": "7", "OMP_NUM_THREADS": "3"}
    environment = dict(wished)
    parallel._prepare(environment)
    assert wished.items() <= environment.items()


def test_the_cores_of_a_job_are_not_taken_for_those_of_a_rank():
    """Snakemake tells the job's in OMP_NUM_THREADS, and mpirun hands it on to every rank."""
    environment = {"OMP_NUM_THREADS": str(CORES), "OMPI_COMM_WORLD_LOCAL_SIZE": str(CORES)}
    parallel._prepare(environment)
    assert environment["TF_NUM_INTRAOP_THREADS"] == "1"
