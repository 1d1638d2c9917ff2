# Two commands do everything on a bare machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
COMPAT ?= .venv-compat
SUPPLY ?= .venv-supply
# LOCKED=1 installs what developers need from requirements-dev.lock, with hashes
LOCKED ?=
# the order of the tests is random, and the same at each run; SEED=N draws another one, as the workflow does at each run
SEED ?= 0
ORDER = --random-order --random-order-bucket=module --random-order-seed=$(SEED)
# real data for tests and benchmarks, where it is at hand (see CONTRIBUTING.md)
EXPUNGE_DATA ?= $(firstword $(wildcard $(CURDIR)/shared/data $(CURDIR)/../shared/data))
export EXPUNGE_DATA
export HF_HUB_OFFLINE = 1
ARGS ?=
RUN ?= $(BIN)/python

.PHONY: demo demo-generation docs test test-slow test-compat check mutants lock sbom torture bench-speed bench-cpu bench-audit bench-generation bench-defaults bench-gpu clean

demo: $(VENV)/.installed
	$(BIN)/expunge demo $(ARGS)

demo-generation: $(VENV)/.installed-dev
	$(BIN)/expunge demo-generation $(ARGS)

test: $(VENV)/.installed-dev
	@echo 'tests in the random order of seed $(SEED); make test SEED=N draws another one'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" $(ORDER) $(ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -m slow $(ARGS)

# a second environment: torchvision would change what the other tests see
test-compat: $(COMPAT)/.installed
	OMP_NUM_THREADS=1 $(COMPAT)/bin/python -m pytest -q tests/compat $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/codespell

# the site, docs/_build/html/index.html; a warning is an error
docs: $(VENV)/.installed-docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html $(ARGS)

# 300 small changes of the core, one at a time: how many do the tests notice? Can be repeated; ARGS='--count 60 --minutes 5' for a piece
mutants: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python tools/mutants.py all $(ARGS)

# exact versions and hashes of what developers install; torch stays out (tools/lock.py says why)
lock: $(SUPPLY)/.installed
	PATH="$(CURDIR)/$(SUPPLY)/bin:$$PATH" $(SUPPLY)/bin/python tools/lock.py

# what is installed in $(VENV): an SBOM (CycloneDX) and the licences, in build/sbom
sbom: $(VENV)/.installed-dev $(SUPPLY)/.installed
	mkdir -p build/sbom
	$(SUPPLY)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom/expunge.cdx.json
	$(SUPPLY)/bin/pip-licenses --python $(BIN)/python --format=csv --order=license --output-file build/sbom/licences.csv

# an hour on two cores: kills, full disks, broken files, very many requests, several writers. ARGS='--minutes 10' is the short form
torture: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/torture/run.py $(ARGS)

bench-speed: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/speed/run.py $(ARGS)

bench-cpu: $(VENV)/.installed-dev
	for grid in digits fashion_mnist cifar10_resnet20; do $(BIN)/expunge bench benchmarks/grids/$$grid.toml --tune $(ARGS) || exit 1; done
	for grid in digits_ablations digits_sizes; do $(BIN)/expunge bench benchmarks/grids/$$grid.toml $(ARGS) || exit 1; done

bench-audit: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/strong_audit.py $(ARGS)

# finished runs are kept; remove benchmarks/results/defaults.json to measure anew
bench-defaults: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/defaults.py $(ARGS)

bench-generation: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/generation_digits.py $(ARGS)
	$(BIN)/python benchmarks/text_to_image.py

# one piece of under ten minutes a call, until it says that all is done; where no package index can be reached, with a Python
# that has the packages: make bench-gpu RUN=python3
bench-gpu: $(if $(filter $(BIN)/python,$(RUN)),$(VENV)/.installed-dev)
	PYTHONPATH=$(CURDIR)/src$${PYTHONPATH:+:$$PYTHONPATH} $(RUN) benchmarks/gpu.py $(ARGS)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("expunge needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

# torch is in no lock, so it comes last; then nothing else is installed with it but the packages of its CUDA build
$(VENV)/.installed-dev: pyproject.toml constraints.txt $(if $(LOCKED),requirements-dev.lock) | $(BIN)/python
ifeq ($(LOCKED),)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
else
	$(BIN)/python -m pip install -q --require-hashes --no-deps -r requirements-dev.lock
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
endif
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $@

# beside the CPU build of torch, torchvision imports only with the operators that tools/torchvision_cpu_ops.py defines
$(COMPAT)/.installed: pyproject.toml constraints.txt tools/torchvision_cpu_ops.py
	$(PYTHON) -m venv $(COMPAT)
	$(COMPAT)/bin/python -m pip install -q -c constraints.txt -e '.[dev,vision,lightning,tensorboard,mlflow,wandb]'
	$(COMPAT)/bin/python -c 'import torchvision' 2>/dev/null || { \
	  site=$$($(COMPAT)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	  cp tools/torchvision_cpu_ops.py "$$site" && echo 'import torchvision_cpu_ops' > "$$site/torchvision_cpu_ops.pth"; }
	touch $@

$(SUPPLY)/.installed: tools/supply.lock
	$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip install -q --require-hashes --no-deps -r tools/supply.lock
	touch $@

clean:
	rm -rf $(VENV) $(COMPAT) $(SUPPLY) demo build docs/_build docs/api src/*.egg-info
