# Quality control of the image.


rule quality_control:
    """Damaged sections, brightness and contrast: tables, pictures, and what masks may use."""
    input:
        image="results/{experiment}/image/manifest.json",
    output:
        "results/{experiment}/quality/manifest.json",
    log:
        "results/{experiment}/logs/quality_control.log",
    benchmark:
        "results/{experiment}/benchmarks/quality_control.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
        workers=2,
    params:
        config=section("quality"),
    shell:
        f"{LAUNCH}floodline quality results/{{wildcards.experiment}}"
        " --workers {resources.workers} > {log} 2>&1"


rule quality:
    """Target: the quality control of the image."""
    input:
        f"{RESULTS}/quality/manifest.json",
