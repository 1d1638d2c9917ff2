# Two commands do everything on a bare machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
COMPAT ?= .venv-compat
# real data for tests and benchmarks, where it is at hand (see CONTRIBUTING.md)
EXPUNGE_DATA ?= $(firstword $(wildcard $(CURDIR)/shared/data $(CURDIR)/../shared/data))
export EXPUNGE_DATA
export HF_HUB_OFFLINE = 1
ARGS ?=
RUN ?= $(BIN)/python

.PHONY: demo demo-generation test test-slow test-compat check mutants torture bench-speed bench-cpu bench-audit bench-generation bench-defaults bench-gpu clean

demo: $(VENV)/.installed
	$(BIN)/expunge demo $(ARGS)

demo-generation: $(VENV)/.installed-dev
	$(BIN)/expunge demo-generation $(ARGS)

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" $(ARGS)

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

# 300 small changes of the core, one at a time: how many do the tests notice? Can be repeated; ARGS='--count 60 --minutes 5' for a piece
mutants: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python tools/mutants.py all $(ARGS)

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

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

# beside the CPU build of torch, torchvision imports only with the operators that tools/torchvision_cpu_ops.py defines
$(COMPAT)/.installed: pyproject.toml constraints.txt tools/torchvision_cpu_ops.py
	$(PYTHON) -m venv $(COMPAT)
	$(COMPAT)/bin/python -m pip install -q -c constraints.txt -e '.[dev,vision,lightning,tensorboard,mlflow,wandb]'
	$(COMPAT)/bin/python -c 'import torchvision' 2>/dev/null || { \
	  site=$$($(COMPAT)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	  cp tools/torchvision_cpu_ops.py "$$site" && echo 'import torchvision_cpu_ops' > "$$site/torchvision_cpu_ops.pth"; }
	touch $@

clean:
	rm -rf $(VENV) $(COMPAT) demo build src/*.egg-info
