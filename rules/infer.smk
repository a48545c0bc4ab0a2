# Flooding. The block store is not declared as an output: Snakemake would delete it when a job fails.


rule flood:
    """One shard of the sub-volumes; those that are already there are skipped."""
    input:
        image="results/{experiment}/image/manifest.json",
        model="results/{experiment}/model/card.json",
        masks=masked_by("seeds", "floods"),
        files=present(files.of_floods(CONFIG)),
    output:
        "results/{experiment}/inference/shards/{shard}.json",
    log:
        "results/{experiment}/logs/flood_{shard}.log",
    benchmark:
        "results/{experiment}/benchmarks/flood_{shard}.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
        workers=2,
        batch=1,
    params:
        config=section("network", "inference"),
        masks=masks("seeds", "floods"),
    shell:
        f"{LAUNCH}floodline infer results/{{wildcards.experiment}} --shard {{wildcards.shard}}"
        " --workers {resources.workers} --batch {resources.batch} > {log} 2>&1"


rule infer:
    """Target: every sub-volume flooded."""
    input:
        f"{RESULTS}/inference/manifest.json",


rule inference_manifest:
    """Checks that every block is there, and lists them."""
    input:
        shards=expand(
            "results/{{experiment}}/inference/shards/{shard}.json",
            shard=range(CONFIG.inference.shards),
        ),
    output:
        "results/{experiment}/inference/manifest.json",
    log:
        "results/{experiment}/logs/inference_manifest.log",
    resources:
        tasks=1,
        mpi="",
    shell:
        f"{LAUNCH}floodline infer results/{{wildcards.experiment}} --finish > {{log}} 2>&1"


rule example_flood:
    """One object is flooded once more, and kept as it grows: a picture for the report."""
    input:
        manifest="results/{experiment}/inference/manifest.json",
    output:
        "results/{experiment}/inference/example.block",
    log:
        "results/{experiment}/logs/example_flood.log",
    threads: 2
    resources:
        tasks=1,
        mpi="",
    shell:
        f"{LAUNCH}floodline infer results/{{wildcards.experiment}} --example > {{log}} 2>&1"
