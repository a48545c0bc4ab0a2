# What all this will take, before anything is spent. Included last: it asks the rules for what the profile gives them.
import json

# Too long for a command line that is printed.
os.environ.update(
    FLOODLINE_GIVEN=json.dumps({rule.name: given(rule) for rule in workflow.rules})
)


rule estimate:
    """Target: jobs, nodes, hours, node-hours and bytes of each stage, printed; status 1 if a queue would refuse it."""
    log:
        f"{RESULTS}/logs/estimate.log",
    retries: 0
    localrule: True
    shell:
        f"floodline estimate {RESULTS} 2>&1 | tee {{log}}"
