# What people look at and work with.


rule meshes:
    """A mesh of every neuron."""
    input:
        neurons="results/{experiment}/neurons/mips.json",
    output:
        "results/{experiment}/neurons/mesh.json",
    log:
        "results/{experiment}/logs/meshes.log",
    benchmark:
        "results/{experiment}/benchmarks/meshes.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
    params:
        config=section("publishing"),
    shell:
        f"{LAUNCH}floodline publish results/{{wildcards.experiment}} meshes > {{log}} 2>&1"


rule skeletons:
    """A skeleton of every neuron."""
    input:
        # After the meshes: both note themselves in the layer's info.
        meshes="results/{experiment}/neurons/mesh.json",
    output:
        "results/{experiment}/neurons/skeletons.json",
    log:
        "results/{experiment}/logs/skeletons.log",
    benchmark:
        "results/{experiment}/benchmarks/skeletons.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
    params:
        config=section("publishing"),
    shell:
        f"{LAUNCH}floodline publish results/{{wildcards.experiment}} skeletons > {{log}} 2>&1"


rule connectome:
    """The neurons and which of them touch."""
    input:
        # With the length of each neuron's skeleton.
        skeletons="results/{experiment}/neurons/skeletons.json",
    output:
        neurons="results/{experiment}/connectome/neurons.parquet",
        contacts="results/{experiment}/connectome/contacts.parquet",
        graph="results/{experiment}/connectome/contacts.graphml",
    log:
        "results/{experiment}/logs/connectome.log",
    benchmark:
        "results/{experiment}/benchmarks/connectome.tsv"
    resources:
        tasks=1,
        mpi="",
    params:
        config=section("publishing"),
    shell:
        f"{LAUNCH}floodline publish results/{{wildcards.experiment}} connectome > {{log}} 2>&1"


if CONFIG.publishing.synapses:

    rule synapses:
        """Which neuron synapses onto which."""
        input:
            contacts="results/{experiment}/connectome/contacts.parquet",
        output:
            synapses="results/{experiment}/connectome/synapses.parquet",
            pairs="results/{experiment}/connectome/synaptic_pairs.parquet",
            graph="results/{experiment}/connectome/synapses.graphml",
        log:
            "results/{experiment}/logs/synapses.log",
        benchmark:
            "results/{experiment}/benchmarks/synapses.tsv"
        resources:
            tasks=1,
            mpi="",
        params:
            config=section("publishing"),
        shell:
            f"{LAUNCH}floodline publish results/{{wildcards.experiment}} synapses > {{log}} 2>&1"


rule viewer_state:
    """A Neuroglancer state with every layer, doubtful decisions and the worst mistakes."""
    input:
        layers=expand("results/{{experiment}}/{layer}/mips.json", layer=layers()),
        meshes="results/{experiment}/neurons/mesh.json",
        skeletons="results/{experiment}/neurons/skeletons.json",
        mapping="results/{experiment}/agglomeration/mapping.parquet",
        metrics="results/{experiment}/evaluation/metrics.json",
    output:
        "results/{experiment}/neuroglancer.json",
    log:
        "results/{experiment}/logs/viewer_state.log",
    resources:
        tasks=1,
        mpi="",
    shell:
        f"{LAUNCH}floodline publish results/{{wildcards.experiment}} state > {{log}} 2>&1"


rule handover_files:
    """Edge list, mapping, skeletons and a state for proofreading tools."""
    input:
        skeletons="results/{experiment}/neurons/skeletons.json",
        state="results/{experiment}/neuroglancer.json",
    output:
        "results/{experiment}/handover/manifest.json",
    log:
        "results/{experiment}/logs/handover_files.log",
    resources:
        tasks=1,
        mpi="",
    shell:
        f"{LAUNCH}floodline publish results/{{wildcards.experiment}} handover > {{log}} 2>&1"


rule handover:
    """Target: files for proofreading tools, which `all` does not make: there is one a neuron."""
    input:
        f"{RESULTS}/handover/manifest.json",


rule export_neurons:
    """The neurons in another format; what was written is read back in part."""
    input:
        neurons="results/{experiment}/neurons/mips.json",
    output:
        "results/{experiment}/exports/{export}.json",
    log:
        "results/{experiment}/logs/export_{export}.log",
    benchmark:
        "results/{experiment}/benchmarks/export_{export}.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
    params:
        export=lambda wildcards: {
            export.name: export.model_dump(mode="json") for export in CONFIG.exports
        }[wildcards.export],
    shell:
        f"{LAUNCH}floodline export results/{{wildcards.experiment}} {{wildcards.export}} > {{log}} 2>&1"


rule exports:
    """Target: the neurons in other formats."""
    input:
        [f"{RESULTS}/exports/{export.name}.json" for export in CONFIG.exports],


rule publish:
    """Target: everything to look at."""
    input:
        rules.exports.input,
        f"{RESULTS}/neuroglancer.json",
        f"{RESULTS}/connectome/neurons.parquet",
        f"{RESULTS}/connectome/synaptic_pairs.parquet"
        if CONFIG.publishing.synapses
        else [],
