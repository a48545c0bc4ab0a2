# The run, to look at; and what made it.


rule screenshots:
    """What the viewer shows, for the report; none, and a sentence, where there is no browser."""
    input:
        state="results/{experiment}/neuroglancer.json",
    output:
        "results/{experiment}/screenshots/manifest.json",
    log:
        "results/{experiment}/logs/screenshots.log",
    benchmark:
        "results/{experiment}/benchmarks/screenshots.tsv"
    threads: 2
    resources:
        tasks=1,
        mpi="",
    shell:
        f"{LAUNCH}floodline publish results/{{wildcards.experiment}} screenshots > {{log}} 2>&1"


rule report_page:
    """One self-contained page, and the provenance of the run."""
    input:
        unpack(reported),
    output:
        page=report(
            "results/{experiment}/report.html",
            caption="../workflow/report/page.rst",
            category="The run",
        ),
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
