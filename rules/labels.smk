# Labels into training sites.


rule partitions:
    """How much of each voxel's neighbourhood its own object fills, in classes."""
    input:
        image="results/{experiment}/image/manifest.json",
        labels="results/{experiment}/labels/manifest.json",
        masks=masked_by("sites"),
        files=present(files.of_masks(files.masks_for(CONFIG, "sites"))),
    output:
        "results/{experiment}/partitions.h5",
    log:
        "results/{experiment}/logs/partitions.log",
    benchmark:
        "results/{experiment}/benchmarks/partitions.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
        workers=2,
    params:
        config=section("sites", "network"),
        masks=masks("sites"),
    shell:
        f"{LAUNCH}floodline labels results/{{wildcards.experiment}} partitions"
        " --workers {resources.workers} > {log} 2>&1"


rule coordinates:
    """Training sites, balanced over the classes."""
    input:
        labels="results/{experiment}/labels/manifest.json",
        partitions="results/{experiment}/partitions.h5",
    output:
        "results/{experiment}/coordinates/manifest.json",
    log:
        "results/{experiment}/logs/coordinates.log",
    benchmark:
        "results/{experiment}/benchmarks/coordinates.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
        workers=2,
    params:
        config=section("seed", "sites", "network"),
    shell:
        f"{LAUNCH}floodline labels results/{{wildcards.experiment}} coordinates"
        " --workers {resources.workers} > {log} 2>&1"


rule labels:
    """Target: the training sites."""
    input:
        f"{RESULTS}/coordinates/manifest.json",
