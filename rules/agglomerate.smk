# Supervoxels into neurons. The steps are apart, so that a changed threshold runs only the solver and what follows.

RESEGMENTED = (
    ["results/{experiment}/agglomeration/resegmentation.parquet"]
    if CONFIG.agglomeration.resegmentation
    else []
)


rule region_graph:
    """Which supervoxels touch, and the evidence for and against their being one neuron."""
    input:
        image="results/{experiment}/image/manifest.json",
        blocks="results/{experiment}/inference/manifest.json",
        supervoxels="results/{experiment}/supervoxels/manifest.json",
    output:
        nodes="results/{experiment}/agglomeration/nodes.parquet",
        contacts="results/{experiment}/agglomeration/contacts.parquet",
    log:
        "results/{experiment}/logs/region_graph.log",
    benchmark:
        "results/{experiment}/benchmarks/region_graph.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
        workers=2,
    params:
        graph=CONFIG.agglomeration.graph.model_dump(mode="json"),
    shell:
        f"{LAUNCH}floodline agglomerate results/{{wildcards.experiment}} graph"
        " --workers {resources.workers} > {log} 2>&1"


rule resegment:
    """Contacts that image and flood leave undecided are flooded again."""
    input:
        contacts="results/{experiment}/agglomeration/contacts.parquet",
        model="results/{experiment}/model/card.json",
    output:
        "results/{experiment}/agglomeration/resegmentation.parquet",
    log:
        "results/{experiment}/logs/resegment.log",
    benchmark:
        "results/{experiment}/benchmarks/resegment.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
        workers=2,
    params:
        config=section("network", "inference"),
        resegmentation=CONFIG.model_dump(mode="json")["agglomeration"]["resegmentation"],
    shell:
        f"{LAUNCH}floodline agglomerate results/{{wildcards.experiment}} resegment"
        " --workers {resources.workers} > {log} 2>&1"


rule fit_scores:
    """A model that scores contacts, trained on labels: where agglomeration.model names its output."""
    input:
        contacts="results/{experiment}/agglomeration/contacts.parquet",
        resegmented=RESEGMENTED,
        supervoxels="results/{experiment}/supervoxels/manifest.json",
        labels="results/{experiment}/labels/manifest.json",
    output:
        "results/{experiment}/agglomeration/model.json",
    log:
        "results/{experiment}/logs/fit_scores.log",
    benchmark:
        "results/{experiment}/benchmarks/fit_scores.tsv"
    resources:
        tasks=1,
        mpi="",
    params:
        fit=CONFIG.agglomeration.fit.model_dump(mode="json"),
    shell:
        f"{LAUNCH}floodline agglomerate results/{{wildcards.experiment}} fit > {{log}} 2>&1"


rule edge_scores:
    """How probable it is that the two sides of a contact are one neuron."""
    input:
        contacts="results/{experiment}/agglomeration/contacts.parquet",
        resegmented=RESEGMENTED,
        model=[CONFIG.agglomeration.model] if CONFIG.agglomeration.model else [],
    output:
        "results/{experiment}/agglomeration/edges.parquet",
    log:
        "results/{experiment}/logs/edge_scores.log",
    benchmark:
        "results/{experiment}/benchmarks/edge_scores.tsv"
    resources:
        tasks=1,
        mpi="",
    params:
        model=CONFIG.agglomeration.model,
    shell:
        f"{LAUNCH}floodline agglomerate results/{{wildcards.experiment}} score > {{log}} 2>&1"


rule solve:
    """Which supervoxels form one neuron."""
    input:
        nodes="results/{experiment}/agglomeration/nodes.parquet",
        edges="results/{experiment}/agglomeration/edges.parquet",
        pairs=(
            [CONFIG.agglomeration.solver.pairs]
            if CONFIG.agglomeration.solver.pairs
            else []
        ),
    output:
        mapping="results/{experiment}/agglomeration/mapping.parquet",
        graph="results/{experiment}/agglomeration/graph.graphml",
    log:
        "results/{experiment}/logs/solve.log",
    benchmark:
        "results/{experiment}/benchmarks/solve.tsv"
    resources:
        tasks=1,
        mpi="",
    params:
        solver=CONFIG.agglomeration.solver.model_dump(mode="json"),
    shell:
        f"{LAUNCH}floodline agglomerate results/{{wildcards.experiment}} solve > {{log}} 2>&1"


rule neurons:
    """The supervoxels relabelled as neurons, grown into unsegmented space if so configured."""
    input:
        supervoxels="results/{experiment}/supervoxels/manifest.json",
        mapping="results/{experiment}/agglomeration/mapping.parquet",
    output:
        "results/{experiment}/neurons/manifest.json",
    log:
        "results/{experiment}/logs/neurons.log",
    benchmark:
        "results/{experiment}/benchmarks/neurons.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
        workers=2,
    params:
        grow=CONFIG.agglomeration.grow.model_dump(mode="json"),
        config=section("storage"),
    shell:
        f"{LAUNCH}floodline agglomerate results/{{wildcards.experiment}} neurons"
        " --workers {resources.workers} > {log} 2>&1"


rule agglomerate:
    """Target: the neurons."""
    input:
        f"{RESULTS}/neurons/mips.json",
