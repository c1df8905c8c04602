# The two commands of the README are `make run` and `make test`; each does all of its own set-up.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
CUDA   ?= cuda12
CONSTRAINTS ?= constraints.txt

.PHONY: run quick test test-full test-slow test-faults test-notebooks test-gpu notebooks speed lint pages docs report clean

run: $(READY)            ## train the polyphonic music model on the Bach chorales that come with music21
	$(BIN)/python -m experiments polyphonic_music $(ARGS)

quick: $(READY)          ## the same, shrunk to under a minute
	$(BIN)/python -m experiments polyphonic_music --quick $(ARGS)

PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadgroup

test: $(READY) lint      ## the tests, without the full matrix and what is slow
	$(PYTEST) -m "not slow and not full and not notebooks and not faults" $(ARGS)

test-full: $(READY)      ## the rest of the matrix of cells, backends and dtypes
	$(PYTEST) -m "full and not slow and not notebooks and not faults" $(ARGS)

test-faults: $(READY)    ## end, damage and race running experiments, hundreds of times: half an hour
	$(PYTEST) -m faults $(ARGS)

test-slow: $(READY)      ## all the tests that take longer than a minute
	$(BIN)/python -m pytest -m slow $(ARGS)

test-notebooks: $(READY) ## execute all notebooks, each within a minute
	$(PYTEST) -m notebooks tests/notebooks $(ARGS)

notebooks: $(READY)      ## execute the scripts of the notebooks, and write these with their outputs
	$(BIN)/python -m notebooks $(ARGS)

speed: $(READY)          ## time the layer against the packages of the extra `bench`, which this installs
	$(BIN)/python -m pip install --quiet --editable ".[experiments,bench]" -c $(CONSTRAINTS)
	$(BIN)/python -m experiments speed $(ARGS)

test-gpu: $(READY)       ## the tests that need an NVIDIA GPU: parity of all ways of running an LSTM
	$(BIN)/python -m pip install --quiet "jax[$(CUDA)]" -c $(CONSTRAINTS)
	$(BIN)/python -m pytest -m gpu $(ARGS)

lint: $(READY)           ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pages: $(READY)          ## build README tables and result pages from experiments/results
	$(BIN)/python -m experiments pages

docs: $(READY)           ## build the documentation as a site, docs/_build/html; warnings are errors
	$(BIN)/python -m pip install --quiet --editable ".[experiments,docs]" -c $(CONSTRAINTS)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

report: $(READY)         ## build one page of all results, report/index.html
	$(BIN)/python -m experiments report

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25"
	$(BIN)/python -m pip install --quiet --editable ".[experiments,notebooks,dev]" -c $(CONSTRAINTS)
	touch $(READY)

clean:                   ## remove the virtual environment; runs are kept
	rm -rf $(VENV)
