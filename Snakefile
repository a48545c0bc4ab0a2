# floodline: from an electron-microscopy volume to neurons.
# The front door: configuration, validation, includes, named targets. See README.md.
from snakemake.utils import min_version

min_version("9.0")

# Only a run without a configuration of its own gets the demo's: two files would be merged key by key.
if "image" not in config:

    configfile: "config/config.yaml"


# Used only when asked for: --software-deployment-method apptainer. Its recipe is beside it.
container: "envs/floodline.sif"


include: "rules/common.smk"


wildcard_constraints:
    experiment=re.escape(CONFIG.name),
    shard=r"\d+",
    layer="image|labels|supervoxels|neurons",
    export="[a-z][a-z0-9_]*",


include: "rules/ingest.smk"
include: "rules/quality.smk"
include: "rules/labels.smk"
include: "rules/train.smk"
include: "rules/infer.smk"
include: "rules/assemble.smk"
include: "rules/agglomerate.smk"
include: "rules/evaluate.smk"
include: "rules/publish.smk"
include: "rules/study.smk"
include: "rules/report.smk"
include: "rules/estimate.smk"


# Written before the first job, for the jobs to read. It is no job's output: a rule depends on parts of the configuration,
# through its `params`, and Snakemake does not look at these while a job that a rule needs is still to run.
onstart:
    write_text(Path(f"{RESULTS}/config.yaml"), configuration.dump(CONFIG))


localrules:
    all,


rule all:
    default_target: True
    input:
        rules.study.input if CONFIG.study else [rules.publish.input, rules.report.input],
