"""Who synapses onto whom: synapses of a table or of a label volume, given to the neurons beside them.

synapses.parquet         a row a synapse: `synapse` (its row in the table, from 0 on, or its label), `x`, `y`, `z`
                         (voxels), and the two neurons, 0 where there is none in reach.
synaptic_pairs.parquet   a row for each two neurons: `synapses`, how many there are.
synapses.graphml         the same as a graph, for networkx and Gephi.

In a table each synapse has a side that sends and one that receives: the neurons are `pre` and `post`, and the graph is
directed. A label volume of clefts does not say which is which: they are `a` and `b`, the two that have most of the
cleft, and the graph is not directed. Neurons reach `publishing.contact_gap_nm` into unsegmented space, the nearest
taking each voxel. What both sides of a synapse give to the same neuron is no pair.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from floodline.config import TableSynapses
from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.geometry import Box, blocks, triple
from floodline.manifest import write_atomically
from floodline.publishing.connectome import grow
from floodline.tables import write_table
from floodline.volumes.layer import Layer
from floodline.volumes.sources import Volume, open_source

SIDES = ("pre", "post")
BLOCK_CHUNKS = 2


def run(experiment: Experiment) -> None:
    """Write the three files, `synaptic_pairs.parquet` last.

    Raises:
        FloodlineError: no synapses are configured, there are no neurons, or the table or the volume cannot be read.
    """
    wanted = experiment.config.publishing.synapses
    if wanted is None:
        raise FloodlineError("publishing.synapses is null: name a table or a volume of synapses there.")
    folder = experiment.connectome
    last = folder / "synaptic_pairs.parquet"
    last.unlink(missing_ok=True)
    neurons, gap_nm = Layer.open(experiment.layer("neurons")), experiment.config.publishing.contact_gap_nm
    if isinstance(wanted, TableSynapses):
        sides: tuple[str, str] = SIDES
        synapses = of_table(read_table(Path(wanted.path)), neurons, gap_nm)
    else:
        sides = ("a", "b")
        synapses = of_clefts(open_source(wanted.source, experiment.config.seed, "labels"), neurons, gap_nm)
    one, other = sides
    whole = synapses[(synapses[one] > 0) & (synapses[other] > 0) & (synapses[one] != synapses[other])]
    pairs = whole.groupby(list(sides)).size().rename("synapses").reset_index()
    write_table(folder / "synapses.parquet", synapses)
    _write_graph(folder / "synapses.graphml", pairs, sides)
    write_table(last, pairs)


def read_table(path: Path) -> pd.DataFrame:
    """A table of synapses.

    Raises:
        FloodlineError: it is missing, is neither CSV nor parquet, or lacks a column of numbers.
    """
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except FileNotFoundError:
        raise FloodlineError(f"{path} does not exist: publishing.synapses names it.") from None
    except (OSError, ValueError) as error:
        raise FloodlineError(f"{path} cannot be read as a table: {' '.join(str(error).split())}.") from None
    columns = [f"{side}_{axis}" for side in SIDES for axis in "xyz"]
    lacking = [name for name in columns if name not in table or not pd.api.types.is_numeric_dtype(table[name])]
    if lacking or table[columns].isna().any(axis=None):
        what = f"lacks {', '.join(lacking)}" if lacking else "has rows without a place"
        raise FloodlineError(f"{path} {what}: a number in each of {', '.join(columns)} is needed, in voxels.")
    return table[columns]


def of_table(table: pd.DataFrame, neurons: Layer, gap_nm: float) -> pd.DataFrame:
    """The neurons at the two points of each synapse.

    Args:
        table: columns pre_x, pre_y, pre_z, post_x, post_y, post_z.

    Returns:
        `synapse`, x, y, z (the middle), `pre`, `post`.
    """
    places = {side: table[[f"{side}_{axis}" for axis in "xyz"]].to_numpy(float) for side in SIDES}
    middle = np.floor((places["pre"] + places["post"]) / 2).astype(np.int64)
    return pd.DataFrame(
        {"synapse": np.arange(len(table))}
        | {axis: middle[:, i] for i, axis in enumerate("xyz")}
        | {side: _at(np.floor(places[side]).astype(np.int64), neurons, gap_nm) for side in SIDES}
    )


def of_clefts(clefts: Volume, neurons: Layer, gap_nm: float) -> pd.DataFrame:
    """The two neurons that have most of each cleft.

    Args:
        clefts: a source of labels, an object a cleft.

    Returns:
        `synapse`, x, y, z (the middle), `a`, `b` (a < b; 0 where there is no second one).
    """
    owned, extent = [], []
    for block in _blocks(neurons):
        inside = block.intersection(clefts.box)
        if inside.is_empty:
            continue
        cleft = np.asarray(clefts.read(inside))
        if not cleft.any():
            continue
        voxels = np.argwhere(cleft > 0)
        labels = cleft[tuple(voxels.T)].astype(np.uint64)
        xyz = voxels[:, ::-1] + inside.start_xyz
        extent.append(pd.DataFrame(xyz, columns=[*"xyz"]).assign(synapse=labels, voxels=1).groupby("synapse").sum())
        owners = _grown(neurons, inside, gap_nm)[tuple(voxels.T)]
        owned.append(pd.DataFrame({"synapse": labels, "neuron": owners}).value_counts().rename("voxels").reset_index())
    if not extent:
        return pd.DataFrame({name: np.zeros(0, np.int64) for name in ("synapse", *"xyz", "a", "b")})
    total = pd.concat(extent).groupby("synapse").sum()
    made = total[[*"xyz"]].floordiv(total["voxels"], axis=0)
    shares = pd.concat(owned).groupby(["synapse", "neuron"], as_index=False)["voxels"].sum()
    shares = shares[shares["neuron"] > 0].sort_values(["synapse", "voxels", "neuron"], ascending=[True, False, True])
    first, second = (shares.groupby("synapse")["neuron"].nth(i) for i in (0, 1))
    first, second = (
        pd.Series(part.to_numpy(), shares.loc[part.index, "synapse"]).reindex(made.index, fill_value=np.uint64(0))
        for part in (first, second)
    )
    known = second > 0
    made["a"] = np.where(known, np.minimum(first, second), first)
    made["b"] = np.where(known, np.maximum(first, second), 0).astype(np.uint64)
    return made.reset_index()


def _blocks(neurons: Layer) -> list[Box]:
    return blocks(neurons.box, triple(BLOCK_CHUNKS * chunk for chunk in neurons.chunk_size_xyz))


def _grown(neurons: Layer, block: Box, gap_nm: float) -> np.ndarray:
    """The neurons of a block, grown into unsegmented space, z, y, x."""
    margin = triple(int(np.ceil(gap_nm / nm)) for nm in neurons.voxel_size_nm_xyz)
    around = block.grown(margin).intersection(neurons.box)
    grown, _ = grow(neurons.read(around), gap_nm, neurons.voxel_size_nm_xyz[::-1])
    return grown[block.slices_zyx(around.start_xyz)]


def _at(places_xyz: np.ndarray, neurons: Layer, gap_nm: float) -> np.ndarray:
    """The neuron at each voxel, 0 outside of the volume; each block is read once."""
    found = np.zeros(len(places_xyz), np.uint64)
    for block in _blocks(neurons):
        inside = ((places_xyz >= block.start_xyz) & (places_xyz < block.stop_xyz)).all(axis=1)
        if inside.any():
            places = (places_xyz[inside] - block.start_xyz)[:, ::-1]
            found[inside] = _grown(neurons, block, gap_nm)[tuple(places.T)]
    return found


def _write_graph(path: Path, pairs: pd.DataFrame, sides: tuple[str, str]) -> None:
    import networkx as nx

    graph = nx.DiGraph() if sides == SIDES else nx.Graph()
    graph.add_weighted_edges_from(pairs[[*sides, "synapses"]].astype(object).to_numpy().tolist(), weight="synapses")
    write_atomically(path, lambda file: nx.write_graphml(graph, file))
