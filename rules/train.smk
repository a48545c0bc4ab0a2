# The network's weights: trained here, or taken as they are.

if CONFIG.training:

    rule train_network:
        """Synchronous training on every rank of the launcher."""
        input:
            image="results/{experiment}/image/manifest.json",
            labels="results/{experiment}/labels/manifest.json",
            coordinates="results/{experiment}/coordinates/manifest.json",
            others=other_sites(CONFIG),
            weights=present(files.of_weights(CONFIG)),
        output:
            metrics="results/{experiment}/training/main/metrics.json",
            card="results/{experiment}/model/card.json",
        log:
            "results/{experiment}/logs/train.log",
        benchmark:
            "results/{experiment}/benchmarks/train.tsv"
        threads: 2
        resources:
            tasks=2,
            mpi="mpirun",
        params:
            config=section("seed", "network", "training", "inference"),
        shell:
            f"{LAUNCH}floodline train results/{{wildcards.experiment}} > {{log}} 2>&1"

else:

    rule import_weights:
        """The configured weights, checked against the configured network."""
        input:
            weights=present(files.of_weights(CONFIG)),
        output:
            card="results/{experiment}/model/card.json",
        log:
            "results/{experiment}/logs/import_weights.log",
        resources:
            tasks=1,
            mpi="",
        params:
            config=section("network"),
        shell:
            f"{LAUNCH}floodline train results/{{wildcards.experiment}} > {{log}} 2>&1"


rule train:
    """Target: the model."""
    input:
        f"{RESULTS}/model/card.json",
