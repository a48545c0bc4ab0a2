# The run, to look at; and what made it.


rule report_page:
    """One self-contained page, and the provenance of the run."""
    input:
        quality="results/{experiment}/quality/manifest.json",
        metrics="results/{experiment}/evaluation/metrics.json",
        connectome="results/{experiment}/connectome/neurons.parquet",
        state="results/{experiment}/neuroglancer.json",
        mapping="results/{experiment}/agglomeration/mapping.parquet",
        card="results/{experiment}/model/card.json",
    output:
        page="results/{experiment}/report.html",
        provenance="results/{experiment}/provenance.json",
    log:
        "results/{experiment}/logs/report.log",
    benchmark:
        "results/{experiment}/benchmarks/report.tsv"
    resources:
        tasks=1,
        mpi="",
    shell:
        f"{LAUNCH}floodline report results/{{wildcards.experiment}} > {{log}} 2>&1"


rule report:
    """Target: the report."""
    input:
        f"{RESULTS}/report.html",
