# qtrace: what a newcomer and a developer type. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ZOO ?= tests/programs/hangs tests/programs/quiet

.DEFAULT_GOAL := help
.PHONY: help install demo test test-packages lint check zoo bench bench-queue fuzz slow screenshots queue-cpython queue-kills wheel-check clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

$(BIN)/qtrace: pyproject.toml qtrace/capture/hot_stops.c
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/tests-installed: $(BIN)/qtrace
	$(BIN)/python -m pip install --quiet --editable '.[test,parquet]'
	@touch $@

install: $(BIN)/qtrace ## make .venv and install qtrace into it

demo: $(BIN)/qtrace ## record the first example, explain it, draw its report
	@mkdir -p reports
	$(BIN)/qtrace record -f -o reports/join_before_get.qtrace examples/join_before_get.py; test $$? -eq 124
	$(BIN)/qtrace explain reports/join_before_get.qtrace; test $$? -eq 1
	$(BIN)/qtrace report reports/join_before_get.qtrace -o reports/join_before_get.html

test: test-packages $(VENV)/tests-installed lint wheel-check ## install what tests need, lint, and run every test
	$(BIN)/python -m pytest -q -rsR --reruns 2 --reruns-delay 1

test-packages: # before qtrace is installed, which wants a compiler
	bash scripts/install_test_packages.sh

lint: $(VENV)/tests-installed ## ruff and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

wheel-check: $(VENV)/tests-installed ## build the wheel and run it in a clean environment
	bash scripts/check_wheel.sh

queue-cpython: $(VENV)/tests-installed ## CPython's own queue tests on qtrace.queue, for every interpreter found
	$(BIN)/python -m pytest -q tests/queue -k cpython

queue-kills: $(VENV)/tests-installed ## kill a process at every instruction of put and get, and check what becomes of the rest
	$(BIN)/python -m tests.queue.kill_points

zoo: $(VENV)/tests-installed ## judge qtrace on programs that hang, or only look so (ZOO=folder); writes reports/zoo.md
	$(BIN)/python scripts/zoo.py $(ZOO)

bench: $(VENV)/tests-installed ## the benchmarks; writes reports/bench.md and .json
	$(BIN)/python -m benchmarks.bench

bench-queue: $(VENV)/tests-installed ## our queue beside multiprocessing.Queue; writes reports/bench_queue.md
	$(BIN)/python -m benchmarks.bench_queue --write reports/bench_queue.md

fuzz: $(VENV)/tests-installed ## damaged recordings, 10,000 cases
	QTRACE_FUZZ=10000 $(BIN)/python -m pytest -q tests/tracefile -k fuzz

slow: $(VENV)/tests-installed ## what takes long: 100 attachments, 1,000 explains of a busy tree, CPython's suites whole
	QTRACE_SLOW=1 $(BIN)/python -m pytest -q -rs tests/capture/test_attach.py tests/capture/test_cpython.py tests/e2e/test_explain_running.py

screenshots: $(VENV)/tests-installed ## pictures of the reports, for the gallery
	bash scripts/gallery.sh --large

clean: ## remove what the other targets made, but for recordings and reports
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
