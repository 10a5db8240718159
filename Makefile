# `make demo` shows it all on this machine, `make test` proves it. Both set up what they need in .venv first.
#
#   make demo      from the demo checkpoint to a conversation in the terminal
#   make test      ruff, mypy --strict, pytest
#   make bench     convert and quantize against llama.cpp (minutes; run `make test` before)
#   make bench-kernels  the quantizing kernels against ggml's own, and memcpy
#   make bench-bits     their bits against ggml's over two million blocks a type (a night)
#   make setup     what `make demo` needs: a virtual environment, llama-cpp-python for this machine, torch, the package
#   make clean     remove .venv and everything built (wheels of llama.cpp stay in your cache)
#
#   PYTHON=python3.12     the Python to use (3.11 or newer)
#   CMAKE_ARGS=...        how llama.cpp is built; by itself CUDA, Metal or CPU is chosen by what is found
#   TORCH="torch==2.13.0" the torch that is installed first, so that yours is used and no other is fetched

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
KERNELS := $(wildcard quant/kernels/*.[ch])

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

.PHONY: demo test lint types pytest bench bench-kernels bench-bits setup setup-dev clean
.DELETE_ON_ERROR:

demo: setup
	@$(BIN)/nemotron demo

test: lint types pytest

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev
	$(BIN)/mypy -p nemotron_gguf

pytest: setup-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

bench: setup-dev
	$(BIN)/python bench/pipeline.py $(BENCH_ARGS)

bench-kernels: setup-dev
	$(BIN)/python bench/kernels.py $(BENCH_ARGS)

bench-bits: setup-dev
	$(BIN)/python bench/kernels.py --compare 2000000 $(BENCH_ARGS)

setup: $(VENV)/installed llama

setup-dev: $(VENV)/installed-dev llama

# Cheap when the right build is in place, so it is asked every time: CMAKE_ARGS may have changed.
.PHONY: llama
llama: $(VENV)/pyvenv.cfg
	@$(BIN)/python -P runner/build_llama.py

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; say PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/installed: pyproject.toml setup.py $(KERNELS) $(VENV)/pyvenv.cfg | llama
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache quant/kernels/_kernels.*
