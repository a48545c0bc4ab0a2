"""The `floodline` command: one subcommand a stage. It parses, calls and reports; no algorithm is here."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer

from floodline import allocation
from floodline.errors import FloodlineError
from floodline.experiment import MAIN, Experiment
from floodline.progress import start_log

app = typer.Typer(
    help="From an electron-microscopy volume to neurons.\n\n"
    "Begin: [bold]doctor[/bold] says whether this machine has everything, [bold]info[/bold] what your volume is, and "
    "[bold]new[/bold] writes a configuration for it.\n\n"
    "Run all stages in order, on this machine or, with another profile, on a cluster: "
    "[bold]snakemake --profile profiles/local --configfile mine/config.yaml[/bold]\n\n"
    "Look: [bold]view results/mine[/bold] prints the link to everything that came of it.\n\n"
    "Each stage is a command on an experiment's folder (results/<name>), too; COMMAND --help says more. The tutorial "
    "is docs/tutorial.md. After [bold]--install-completion[/bold] the Tab key knows commands and steps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
Workers = Annotated[int, typer.Option(help="Processes that work side by side where there is no launcher.", min=1)]
Folder = Annotated[Path, typer.Argument(help="The experiment's folder, results/<name>.", show_default=False)]


@app.command(rich_help_panel="Set up")
def configure(
    file: Annotated[Path, typer.Argument(help="A configuration, e.g. config/config.yaml.", show_default=False)],
    results: Annotated[Path, typer.Option(help="Where experiments go.")] = Path("results"),
) -> None:
    """Check a configuration and make the experiment's folder with the resolved one."""
    from floodline import config as configuration
    from floodline.manifest import write_text

    config = configuration.load(file)
    path = results / config.name / "config.yaml"
    write_text(path, configuration.dump(config))
    print(path.parent)


@app.command(rich_help_panel="Set up")
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="As a page to read.")] = False,
) -> None:
    """Print the JSON schema of the configuration."""
    import json

    from floodline import config as configuration
    from floodline import reference

    print(reference.markdown() if markdown else json.dumps(configuration.schema(), indent=2))


@app.command(rich_help_panel="Set up")
def new(
    folder: Annotated[Path, typer.Argument(help="A folder for it; its name names the experiment.", show_default=False)],
    image: Annotated[str, typer.Argument(help="The image: a path or URL, as for `info`.", show_default=False)],
    labels: Annotated[str | None, typer.Option(help="Proofread labels to train on.", show_default=False)] = None,
    weights: Annotated[
        str | None, typer.Option(help="A trained network, in place of training.", show_default=False)
    ] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="X Y Z in nanometres, where the image does not say.", show_default=False),
    ] = None,
) -> None:
    """Begin a configuration from a volume's own metadata."""
    from floodline import starter

    path = starter.new(folder, image, labels, weights, voxel_size)
    print(f"{path}\nRead it, then: snakemake --profile profiles/local --configfile {path} --dry-run")


@app.command(rich_help_panel="Set up")
def doctor() -> None:
    """Say what is missing on this machine and how to get it; status 1 if anything is."""
    from floodline import doctor as doctors

    findings = doctors.examine()
    for finding in findings:
        print(finding)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


@app.command(rich_help_panel="Set up")
def tune(
    what: Annotated[
        Path | None,
        typer.Argument(
            help="A configuration, or an experiment's folder; without it, the published network.", show_default=False
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="A JSON file for the numbers.", show_default=False)] = None,
) -> None:
    """Measure what floods fastest on this machine, in under a minute, and say what to configure and to expect."""
    from floodline import tune as tuning

    tuning.run(what, output)


@app.command(rich_help_panel="Set up")
def estimate(
    folder: Folder,
    given: Annotated[
        str, typer.Option(envvar="FLOODLINE_GIVEN", help="JSON: resources of each rule; the target estimate sets it.")
    ] = "{}",
) -> None:
    """Say what each stage will take: jobs, nodes, hours, node-hours, bytes; status 1 if a queue would refuse it."""
    import json

    from floodline import estimate as estimating

    estimating.run(Experiment(folder), json.loads(given))


@app.command(rich_help_panel="Look at it")
def info(
    volume: Annotated[
        str,
        typer.Argument(
            help="A folder, file or pattern of slices; a file (file.h5:dataset for HDF5); a folder or URL of a "
            "precomputed layer, of Zarr or N5; or an experiment's folder.",
            show_default=False,
        ),
    ],
) -> None:
    """Say what a volume is: size, type, voxels, chunks; and how a configuration names it."""
    from floodline import starter

    print(starter.describe(volume), end="")


@app.command(rich_help_panel="Stages")
def ingest(
    folder: Folder,
    step: Annotated[
        Literal["image", "labels", "all", "verify"],
        typer.Argument(help="Which volume; verify: compare what is stored with the checksums of what was written."),
    ] = "all",
    workers: Workers = 1,
    memory_mb: Annotated[int, typer.Option(help="Memory of each of them, megabytes.")] = 1000,
) -> None:
    """Read the image and the labels into precomputed layers."""
    experiment = Experiment(folder)
    if step == "verify":
        from floodline.ingest import verify

        for layer in ("image", "labels"):
            if experiment.manifest(layer).is_file():
                print(verify.run(experiment, layer, workers, memory_mb))
    if step in ("image", "all"):
        from floodline.ingest import image

        image.run(experiment, workers, memory_mb)
    if step == "labels" or (step == "all" and experiment.config.labels is not None):
        from floodline.ingest import labels

        labels.run(experiment, workers, memory_mb)


@app.command(rich_help_panel="Stages")
def quality(folder: Folder, workers: Workers = 1) -> None:
    """Look for damaged sections of the image: missing, repeated, blurred, shifted, saturated."""
    from floodline.quality import run

    run.run(Experiment(folder), workers)


@app.command(rich_help_panel="Stages")
def pyramid(
    folder: Folder,
    layer: Annotated[Literal["image", "labels", "supervoxels", "neurons"], typer.Argument(help="Which layer.")],
) -> None:
    """Add the coarser levels of a layer."""
    from floodline.volumes import pyramid as pyramids

    experiment = Experiment(folder)
    summary = experiment.manifest(layer).with_name("mips.json")
    pyramids.run(experiment.layer(layer), experiment.config.storage.mips, summary)


@app.command(rich_help_panel="Stages")
def labels(
    folder: Folder,
    step: Annotated[Literal["partitions", "coordinates", "all"], typer.Argument(help="Which step.")] = "all",
    workers: Workers = 1,
) -> None:
    """Find the training sites: partitions of the labels, and balanced coordinates."""
    from floodline.labels import coordinates, partitions

    experiment = Experiment(folder)
    if step in ("partitions", "all"):
        partitions.run(experiment, workers)
    if step in ("coordinates", "all"):
        coordinates.run(experiment, workers)


@app.command(rich_help_panel="Stages")
def train(
    folder: Folder,
    cell: Annotated[str, typer.Option(help="A cell of the experiment's study.", show_default=False)] = MAIN,
) -> None:
    """Train the network (or take the configured weights as they are), on every rank of the launcher."""
    experiment = Experiment(folder, cell)
    if experiment.config.training is None:
        from floodline.training import import_weights

        import_weights.run(experiment)
    else:
        from floodline.training import run

        run.run(experiment)


@app.command(rich_help_panel="Stages")
def infer(
    folder: Folder,
    shard: Annotated[
        int | None, typer.Option(help="Only this shard, from 0; without it: all, and the manifest.")
    ] = None,
    workers: Workers = 1,
    batch: Annotated[
        int, typer.Option(help="Sub-volumes of a process that share each call of its network.", min=1)
    ] = 1,
    finish: Annotated[
        bool, typer.Option("--finish", help="Only check that all is there and write the manifest.")
    ] = False,
    example: Annotated[
        bool, typer.Option("--example", help="Only flood one object once more, and keep how it grows.")
    ] = False,
) -> None:
    """Flood every sub-volume."""
    experiment = Experiment(folder)
    if example:
        from floodline.inference import example as examples

        return examples.run(experiment)
    from floodline import pool
    from floodline.inference import run

    if not finish:
        run.run(experiment, shard, workers, batch)
    if (finish or shard is None) and pool.is_leader():
        run.finish(experiment)
    return None


@app.command(rich_help_panel="Stages")
def assemble(folder: Folder, workers: Workers = 1) -> None:
    """Join the pieces of all sub-volumes into one label space: the supervoxels."""
    from floodline.assembly import run

    run.run(Experiment(folder), workers)


@app.command(rich_help_panel="Stages")
def agglomerate(
    folder: Folder,
    step: Annotated[
        Literal["graph", "resegment", "score", "solve", "neurons", "all", "fit"],
        typer.Argument(help="Which step; fit, which trains a model that scores contacts, is not part of all."),
    ] = "all",
    workers: Workers = 1,
) -> None:
    """Merge supervoxels into neurons over the graph of their contacts."""
    experiment = Experiment(folder)
    if step in ("graph", "all"):
        from floodline.agglomeration import graph

        graph.run(experiment, workers)
    if step == "resegment" or (step == "all" and experiment.config.agglomeration.resegmentation):
        from floodline.agglomeration import resegment

        resegment.run(experiment, workers)
    if step in ("score", "all"):
        from floodline.agglomeration import edges

        edges.run(experiment)
    if step in ("solve", "all"):
        from floodline.agglomeration import solve

        solve.run(experiment)
    if step in ("neurons", "all"):
        from floodline.agglomeration import neurons

        neurons.run(experiment, workers)
    if step == "fit":
        from floodline.agglomeration import fit

        fit.run(experiment)


@app.command(rich_help_panel="Stages")
def evaluate(folder: Folder, workers: Workers = 1) -> None:
    """Score supervoxels and neurons against the labels."""
    from floodline.evaluation import run

    run.run(Experiment(folder), workers)


@app.command(rich_help_panel="Stages")
def publish(
    folder: Folder,
    step: Annotated[
        Literal["meshes", "skeletons", "connectome", "synapses", "state", "screenshots", "handover", "all"],
        typer.Argument(help="Which product."),
    ] = "all",
) -> None:
    """Make meshes, skeletons, the connectome, the viewer's state, pictures of it, and files for proofreading tools."""
    experiment = Experiment(folder)
    if step in ("meshes", "all"):
        from floodline.publishing import meshes

        meshes.run(experiment)
    if step in ("skeletons", "all"):
        from floodline.publishing import skeletons

        skeletons.run(experiment)
    if step in ("connectome", "all"):
        from floodline.publishing import connectome

        connectome.run(experiment)
    if step == "synapses" or (step == "all" and experiment.config.publishing.synapses):
        from floodline.publishing import synapses

        synapses.run(experiment)
    if step in ("state", "all"):
        from floodline.publishing import state

        state.run(experiment)
    if step in ("screenshots", "all"):
        from floodline.publishing import screenshots

        screenshots.run(experiment)
    if step in ("handover", "all"):
        from floodline.publishing import handover

        handover.run(experiment)


@app.command(rich_help_panel="Stages")
def export(
    folder: Folder,
    name: Annotated[
        str | None, typer.Argument(help="Of the configuration's exports; without it: all.", show_default=False)
    ] = None,
) -> None:
    """Write the neurons in other formats, and read back a part of them."""
    from floodline.publishing import export as exporting

    experiment = Experiment(folder)
    for one in [each.name for each in experiment.config.exports] if name is None else [name]:
        exporting.run(experiment, one)


@app.command(rich_help_panel="Stages")
def study(folder: Folder) -> None:
    """Put the trainings of a study into one table, and find what it says."""
    from floodline.studies import run

    run.run(Experiment(folder))


@app.command(rich_help_panel="Stages")
def report(folder: Folder) -> None:
    """Write report.html and provenance.json."""
    from floodline.publishing import report as reporting

    reporting.run(Experiment(folder))


@app.command(rich_help_panel="Look at it")
def export_weights(
    folder: Folder,
    prefix: Annotated[Path, typer.Argument(help="Of the checkpoint's files, e.g. ours/model.ckpt.")],
) -> None:
    """Write an experiment's network as a TensorFlow checkpoint in the layout of google/ffn."""
    from floodline.ffn import weights

    experiment = Experiment(folder)
    values = weights.load(experiment.model)
    weights.check(values, experiment.config.network)
    weights.export_checkpoint(prefix, values, weights.steps_of(experiment.model))
    print(prefix)


@app.command(rich_help_panel="Look at it")
def scaling(
    table: Annotated[
        Path | None,
        typer.Argument(
            help="Measured speeds: CSV with columns workers, fovs_per_second; without it: the published ones.",
            show_default=False,
        ),
    ] = None,
    fovs: Annotated[int, typer.Option(help="Fields of view of a worker's step.", min=1)] = 4,
    parameters: Annotated[int, typer.Option(help="Weights of the network.", min=1)] = 638_433,
    tensors: Annotated[int, typer.Option(help="Messages that the gradients are sent in.", min=1)] = 50,
    workers: Annotated[list[int] | None, typer.Option(help="Numbers of workers to predict.")] = None,
) -> None:
    """Fit a model of training's speed to measurements: what to expect of more workers, what limits, what would help."""
    from floodline.studies import forecast
    from floodline.studies.scaling import PUBLISHED

    speeds = PUBLISHED if table is None else forecast.read_speeds(table)
    print(forecast.report(speeds, fovs, parameters, tensors, workers or [2048, 16_384]), end="")


@app.command(rich_help_panel="Look at it")
def view(
    folder: Folder,
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any that is free.", min=0, max=65535)] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets every machine in.")] = "127.0.0.1",
    allow_origin: Annotated[
        str | None, typer.Option(help="Web site of a hosted Neuroglancer that may read the data.")
    ] = None,
) -> None:
    """Serve an experiment and the Neuroglancer viewer, and print the link to open. Needs no network."""
    from floodline.publishing import viewer

    viewer.run(Experiment(folder), host, port, allow_origin)


def main() -> None:
    """Run the command; a FloodlineError becomes one sentence and exit status 1; want of time has its own."""
    start_log()
    # TensorFlow greets at length, in every process.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # Google's storage library announces, in every process, when it will stop supporting Python 3.11.
    warnings.filterwarnings("ignore", category=FutureWarning, module="google")
    try:
        app()
    except allocation.OutOfTime as error:
        print(f"floodline: {error}", file=sys.stderr, flush=True)
        allocation.ask_to_continue()
        sys.exit(allocation.exit_status())
    except FloodlineError as error:
        sys.exit(f"floodline: {error}")
