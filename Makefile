# Everything here needs only make and Python 3.11 or newer; what is installed goes into .venv/.
#
#   make demo   run the first notebook: its pictures, a page to look at, and its bill
#   make test   everything that must hold before a change goes in
#   make lab    JupyterLab on notebooks/, with play money only
#   make docs   the documentation as a site in build/docs, without the network
#
#   make lint   style, spelling, no keys in files
#   make types  the type checks
#   make notebooks  run all of them on the practice gateway, and keep their outputs
#   make bench  measure speed, beside other clients
#   make soak   kill a paying kernel 200 times, and count the money (KILLS=1000 for more)
#   make release    what would be published, in dist/, built and tried
#   make clean  remove all of it again

PYTHON ?= python3
KILLS ?= 200

BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WALLETS := -u BLOCKRUN_WALLET_KEY -u BASE_CHAIN_WALLET_KEY -u SOLANA_WALLET_KEY -u BLOCKRUN_API_URL \
	-u BLOCKRUN_API_KEY -u BLOCKRUN_API_KEY_URL -u BLOCKRUN_PROXY_PORT -u BLOCKRUN_WALLET
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)

.DELETE_ON_ERROR:
.PHONY: demo test lint types docs bench soak lab notebooks release clean

demo: .make/demo
	$(BIN)/python notebooks/demo.py

# A half for each worker, in order, and the rest of the other's at the end: servers and kernels start about once.
test: lint types .make/chromium
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: .make/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/python tests/release/scan_secrets.py

types: .make/test
	$(BIN)/mypy

docs: .make/docs
	$(BIN)/python -m sphinx -q -W --keep-going -E -b html docs build/docs
	@echo "The documentation: build/docs/index.html"

notebooks: .make/lab
	$(BIN)/python notebooks/build.py

bench: .make/test
	$(BIN)/python benchmarks

soak: .make/test
	KILLS=$(KILLS) $(BIN)/python -m pytest tests/kernel/test_kill.py

# Publishing is not automated: it is `twine upload dist/*` by somebody who may, after a tag.
release: .make/test .make/release
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m pytest -q tests/release/test_wheel.py

# A home of its own and no key from the environment: whatever a cell says, there is nothing real to spend.
lab: .make/lab
	env $(WALLETS) BLOCKRUN_HOME="$(CURDIR)/build/lab-home" $(BIN)/python -m jupyterlab $(AS_ROOT) notebooks

clean:
	rm -rf .venv .make build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.make/demo: SELF := .
.make/test .make/lab .make/docs .make/release: SELF := .[all]

# A stamp says that something is installed; it is renewed when pyproject.toml changes.
.make/demo .make/test .make/lab .make/docs .make/release: .make/%: .make/pip pyproject.toml
	@echo "Installing what '$*' needs into .venv ..."
	@$(PIP) install --editable "$(SELF)" --group $*
	@touch $@

# A link to the browser that was found or installed: once the browser is gone, so is the target.
.make/chromium: | .make/test
	@path=$$($(BIN)/python tests/harness/chromium.py) && ln -sf "$$path" $@

# Dependency groups need a pip of 2025; the one that Python brings may be older.
.make/pip: .venv/pyvenv.cfg
	@$(PIP) install --upgrade "pip>=25.1"
	@mkdir -p $(@D)
	@touch $@

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@$(PYTHON) -m venv .venv
