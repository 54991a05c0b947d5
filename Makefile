# Two commands matter: `make demo` and `make test`. Both create what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECONDS ?=
# Half of the suite's time is spent waiting for what must not happen, or must happen late: three processes share it, each
# file's tests in one of them and in their order.
WORKERS := --numprocesses 3 --dist loadfile --no-loadscope-reorder
# Of `make opcua-fault-test`: so many times connect, fault, reconnect.
CYCLES ?= 200
# Of `make fault-test`: a run is repeated with its SEED; it ends after so many READINGS, or SECONDS if they are given.
SEED ?=
READINGS ?= 1000000
# Of `make opcua-kill-test`: how often the gateway is killed; with its SEED.
KILLS ?= 50
# Of `make crash-test`: how many states after a cut of the power are opened; with its SEED.
STATES ?= 5000

.PHONY: demo test lint bench fault-test opcua-fault-test opcua-kill-test crash-test schema clean
.DEFAULT_GOAL := test

# One virtual environment for all; each stamp says which extras are in it and is renewed with pyproject.toml.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,test]'
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/edge-gateway demo $(if $(SECONDS),--seconds $(SECONDS))

test: $(VENV)/.test
	$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),$(WORKERS))

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python -m bench $(ARGS)

fault-test: $(VENV)/.test
	$(BIN)/python -m tests.faults --readings $(READINGS) $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))
	FAULT_SECONDS=$(or $(SECONDS),60) $(BIN)/python -m pytest -q -s tests/end_to_end/test_neighbours.py

opcua-fault-test: $(VENV)/.test
	$(BIN)/python -m tests.faults.opcua_cycles --cycles $(CYCLES) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.faults.opcua_many
	$(BIN)/python -m pytest -q -s tests/end_to_end/test_opcua_faults.py tests/end_to_end/opcua_whole_way.py

opcua-kill-test: $(VENV)/.test
	npm ci --prefix tests/interop --no-progress --silent
	$(BIN)/python -m tests.interop.opcua_kills --kills $(KILLS) $(if $(SEED),--seed $(SEED))

crash-test: $(VENV)/.test
	$(BIN)/python -m tests.crash --states $(STATES) $(if $(SEED),--seed $(SEED))

schema: $(VENV)/.test
	$(BIN)/edge-gateway schema > config/gateway.schema.json

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
