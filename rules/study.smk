# A study: a training for each cell of a matrix, then one table and its figure. What the cells share is made once.

if CONFIG.study:
    CELLS = configuration.cells(CONFIG)

    rule study_cell:
        """One training. One that diverges is a result, and stops nothing."""
        input:
            image="results/{experiment}/image/manifest.json",
            labels="results/{experiment}/labels/manifest.json",
            coordinates="results/{experiment}/coordinates/manifest.json",
            others=lambda wildcards: other_sites(CELLS[wildcards.cell].config),
            weights=lambda wildcards: present(
                files.of_weights(CELLS[wildcards.cell].config)
            ),
        output:
            "results/{experiment}/training/{cell}/metrics.json",
        log:
            "results/{experiment}/logs/study/{cell}.log",
        benchmark:
            "results/{experiment}/benchmarks/study/{cell}.tsv"
        wildcard_constraints:
            cell="|".join(map(re.escape, CELLS)),
        threads: cell_workers
        resources:
            tasks=cell_workers,
            mpi="mpirun",
            # Speeds are compared: nothing runs beside. The local profile has one of it.
            quiet_machine=int(CONFIG.study.figure == "scaling"),
        params:
            config=cell_section,
        shell:
            f"{LAUNCH}floodline train results/{{wildcards.experiment}} --cell {{wildcards.cell}} > {{log}} 2>&1"

    rule study_table:
        """All cells in one table, and what they say."""
        input:
            expand(
                "results/{{experiment}}/training/{cell}/metrics.json",
                cell=list(CELLS),
            ),
        output:
            "results/{experiment}/study.parquet",
        log:
            "results/{experiment}/logs/study_table.log",
        resources:
            tasks=1,
            mpi="",
        params:
            study=CONFIG.study.model_dump(mode="json"),
        shell:
            f"{LAUNCH}floodline study results/{{wildcards.experiment}} > {{log}} 2>&1"


rule study:
    """Target: a study's table, and the report with its figure."""
    input:
        study_results,
