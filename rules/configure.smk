# The resolved configuration, which the stages read.


rule configure:
    """The configuration with every default filled in."""
    output:
        "results/{experiment}/config.yaml",
    log:
        "results/{experiment}/logs/configure.log",
    params:
        config=configuration.dump(CONFIG),
    run:
        Path(output[0]).write_text(params.config)
