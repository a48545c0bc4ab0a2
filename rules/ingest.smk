# Volumes into precomputed layers.


rule ingest_image:
    """Image source -> image/, with its mean and standard deviation."""
    output:
        "results/{experiment}/image/manifest.json",
    log:
        "results/{experiment}/logs/ingest_image.log",
    benchmark:
        "results/{experiment}/benchmarks/ingest_image.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
        workers=2,
        memory_mb=1000,
    params:
        config=section("seed", "image", "storage"),
    shell:
        f"{LAUNCH}floodline ingest results/{{wildcards.experiment}} image"
        " --workers {resources.workers} --memory-mb {resources.memory_mb} > {log} 2>&1"


rule ingest_labels:
    """Labels source -> labels/, as neurons."""
    input:
        image="results/{experiment}/image/manifest.json",
    output:
        "results/{experiment}/labels/manifest.json",
    log:
        "results/{experiment}/logs/ingest_labels.log",
    benchmark:
        "results/{experiment}/benchmarks/ingest_labels.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
        workers=2,
        memory_mb=1000,
    params:
        config=section("seed", "labels", "storage"),
    shell:
        f"{LAUNCH}floodline ingest results/{{wildcards.experiment}} labels"
        " --workers {resources.workers} --memory-mb {resources.memory_mb} > {log} 2>&1"


rule pyramid:
    """Coarser levels of a layer, for viewing."""
    input:
        manifest="results/{experiment}/{layer}/manifest.json",
    output:
        "results/{experiment}/{layer}/mips.json",
    log:
        "results/{experiment}/logs/pyramid_{layer}.log",
    benchmark:
        "results/{experiment}/benchmarks/pyramid_{layer}.tsv"
    resources:
        tasks=1,
        mpi="",
    params:
        config=section("storage"),
    shell:
        f"{LAUNCH}floodline pyramid results/{{wildcards.experiment}} {{wildcards.layer}} > {{log}} 2>&1"


rule ingest:
    """Target: the image and the labels with their pyramids."""
    input:
        expand(
            f"{RESULTS}/{{layer}}/mips.json",
            layer=[layer for layer in layers() if layer in ("image", "labels")],
        ),
