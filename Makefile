PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
PEERS_PIP := $(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint tests/peers/constraints.txt
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-peers docs clean

demo: $(VENV)/.train
	$(VENV)/bin/tauten demo --output runs/demo

test: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile

test-peers: $(PEERS)/.installed
	OMP_NUM_THREADS=1 $(PEERS)/bin/python -m pytest tests/peers -c tests/peers/pytest.ini

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

clean:
	rm -rf $(VENV) $(PEERS) runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
