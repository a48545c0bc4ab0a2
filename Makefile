# make demo: set-up and the main job. make test: set-up if needed and the tests.
SHELL := /bin/bash
VENV := .venv
# Everything runs in the environment of the locks, and nothing of the user's site-packages or Python path leaks into it.
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH" PYTHONNOUSERSITE=1 PYTHONPATH=

.PHONY: help setup openvino demo test test-slow check format lock schema clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

setup: $(VENV)/.installed ## make .venv from the locks, if they have changed

$(VENV)/.installed: envs/build.lock envs/requirements.lock envs/horovod.lock envs/install.sh pyproject.toml
	@bash envs/install.sh

openvino: setup ## add the OpenVINO runtime, which some processors flood faster with
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r envs/openvino.lock

demo: setup ## the whole chain on a generated volume, with scores, a report and a viewer
	@$(RUN) snakemake --profile profiles/local
	@echo "Everything is behind http://127.0.0.1:8080/ while this runs: $(VENV)/bin/floodline view results/demo"

test: setup ## what must hold
	@$(RUN) python -m pytest tests -m "not slow" -n 2 $(PYTEST)

test-slow: setup ## the longer proofs
	@$(RUN) python -m pytest tests -m slow $(PYTEST)

check: setup ## lint, format, types
	@$(RUN) ruff check workflow tests benchmarks
	@$(RUN) ruff format --check workflow tests benchmarks
	@$(RUN) snakefmt --check Snakefile rules
	@$(RUN) mypy
	@$(RUN) snakemake --lint --configfile config/config.yaml

format: setup ## format the code
	@$(RUN) ruff format workflow tests benchmarks
	@$(RUN) ruff check --fix workflow tests benchmarks
	@$(RUN) snakefmt Snakefile rules

# Needs uv (https://docs.astral.sh/uv/). The locks hold names, versions and hashes only.
LOCK := uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --allow-unsafe
lock: ## resolve the locks anew
	cd envs && $(LOCK) requirements.in -o requirements.lock
	cd envs && sed 's/^tensorflow-cpu==/tensorflow[and-cuda]==/' requirements.in | $(LOCK) -c requirements.lock - -o gpu.lock
	cd envs && $(LOCK) -c requirements.lock build.in -o build.lock
	cd envs && $(LOCK) --no-deps horovod.in -o horovod.lock
	cd envs && $(LOCK) --no-deps openvino.in -o openvino.lock

schema: setup ## write the JSON schema of the configuration, and its reference
	@$(RUN) floodline schema > workflow/schemas/config.schema.json
	@$(RUN) floodline schema --markdown > config/README.md

clean: ## remove the environment and all results
	rm -rf $(VENV) .snakemake results
