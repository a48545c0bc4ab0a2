# Sub-volumes into one label space.


rule supervoxels:
    """Pieces of neighbouring sub-volumes that are one object get one id."""
    input:
        blocks="results/{experiment}/inference/manifest.json",
        pairs=[CONFIG.assembly.pairs] if CONFIG.assembly.pairs else [],
    output:
        "results/{experiment}/supervoxels/manifest.json",
    log:
        "results/{experiment}/logs/assemble.log",
    benchmark:
        "results/{experiment}/benchmarks/assemble.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
        workers=2,
    params:
        config=section("assembly", "storage"),
    shell:
        f"{LAUNCH}floodline assemble results/{{wildcards.experiment}}"
        " --workers {resources.workers} > {log} 2>&1"


rule assemble:
    """Target: the supervoxels."""
    input:
        f"{RESULTS}/supervoxels/mips.json",
