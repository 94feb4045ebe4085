PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
LOWEST := .venv-lowest
PEERS_PIP := $(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint tests/peers/constraints.txt
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-peers test-lowest bench bench-record docs clean

demo: $(VENV)/.train
	$(VENV)/bin/tauten demo --output runs/demo

test: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile

test-peers: $(PEERS)/.installed
	OMP_NUM_THREADS=1 $(PEERS)/bin/python -m pytest tests/peers -c tests/peers/pytest.ini

# the lowest versions that pyproject.toml allows, with the torch that is pinned
test-lowest: $(LOWEST)/.installed
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest tests/models/test_joint.py tests/models/test_open_clip.py \
		tests/models/test_damaged_models.py tests/models/test_image_settings.py tests/models/test_adapters.py \
		tests/data/test_video.py tests/structure/test_embed.py tests/training/test_train.py

# measured ratios beside the recorded ones, and new ones in their place
bench: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -W ignore benchmarks/bench.py

bench-record: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -W ignore benchmarks/bench.py --record

docs: $(VENV)/.dev
	$(PIP) --editable ".[docs]"
	$(VENV)/bin/mkdocs build --strict

$(VENV)/.train: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[train]"
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[dev]"
	touch $@

# torchvision is built for another torch, and is installed without what it needs
$(PEERS)/.installed: pyproject.toml tests/peers/requirements.txt tests/peers/constraints.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS_PIP) torch && \
	$(PEERS_PIP) --no-deps torchvision && \
	$(PEERS_PIP) --requirement tests/peers/requirements.txt && \
	$(PEERS_PIP) --no-deps --editable . || \
	{ echo "test-peers: not all peers could be installed, so nothing was tested"; exit 1; }
	touch $@

$(LOWEST)/.installed: pyproject.toml tests/lowest.py
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python tests/lowest.py train structure video pretrained peft > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		"$$(grep ^torch== constraints.txt)" --requirement $(LOWEST)/lowest.txt pytest hypothesis
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) $(LOWEST) runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
