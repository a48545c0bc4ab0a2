# Scores against the labels.


rule metrics:
    """Supervoxels and neurons against the labels, in every box and convention."""
    input:
        segmentations=expand(
            "results/{{experiment}}/{layer}/manifest.json",
            layer=["supervoxels", "neurons"],
        ),
        labels=["results/{experiment}/labels/manifest.json"] if CONFIG.labels else [],
    output:
        report(
            "results/{experiment}/evaluation/metrics.json",
            caption="../workflow/report/metrics.rst",
            category="The run",
        ),
    log:
        "results/{experiment}/logs/evaluate.log",
    benchmark:
        "results/{experiment}/benchmarks/evaluate.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
        workers=2,
    params:
        config=section("evaluation"),
    shell:
        f"{LAUNCH}floodline evaluate results/{{wildcards.experiment}}"
        " --workers {resources.workers} > {log} 2>&1"


rule evaluate:
    """Target: the scores."""
    input:
        f"{RESULTS}/evaluation/metrics.json",
