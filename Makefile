# You need make and Python 3.11 or newer. Everything is installed into .venv/.
#
#   make demo   run the first notebook: its images, its page, and its bill
#   make check  lint, types and unit tests: about a minute, before every commit
#   make test   all tests, in under 15 minutes: CI runs this
#   make lab    JupyterLab on notebooks/, with play money only
#
#   make lint   check style, spelling, workflows and hooks, and search the files for keys
#   make types  the type checks
#   make unit   the fast tests: no browser, no kernel, no server
#   make fuzz   random input for every parser (EXAMPLES=2000 per test)
#   make soak   kill a paying kernel 200 times (KILLS=1000), run 20,000 random stories of a hostile
#               merchant (STORIES=100000), start a class of 200 (CLASS=400), and kill its service
#               500 times (SEEDS=1000); every test checks the money
#   make bench  measure the speed and compare it with other clients
#   make docs   build the documentation in build/docs, without the network
#   make notebooks  run all notebooks on the practice gateway and store their outputs
#   make peers  buy from the newest x402 servers of npm, with the official verifier (needs Node)
#   make release    build dist/ and test the wheel
#   make clean  remove everything that was installed or built

PYTHON ?= python3
KILLS ?= 200
STORIES ?= 20000
CLASS ?= 200
SEEDS ?= 500
EXAMPLES ?= 2000
# The package to install: a wheel, or the source if this is empty.
WHEEL ?=

# The JavaScript of the widgets is checked where Node 20 or newer is installed.
NODE := $(if $(shell command -v npm 2>/dev/null),node_modules/.bin/)
NODE_TOOLS := $(if $(NODE),node_modules/.package-lock.json)
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WALLETS := -u BLOCKRUN_WALLET_KEY -u BASE_CHAIN_WALLET_KEY -u SOLANA_WALLET_KEY -u BLOCKRUN_API_URL \
	-u BLOCKRUN_API_KEY -u BLOCKRUN_API_KEY_URL -u BLOCKRUN_PROXY_PORT -u BLOCKRUN_WALLET
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)

# With this variable, every worker and every process of a test would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: demo check test lint types unit fuzz soak peers bench docs lab notebooks release clean

demo: .make/demo
	$(BIN)/python notebooks/demo.py

check: lint types unit

# Each worker gets a part of the tests, in order, so that servers and kernels start about once; an idle worker takes tests
# from the others. Three workers use the time in which tests wait. Tests that fail run once more, without the others.
test: lint types .make/chromium .make/proxy .make/postgresql
	$(BIN)/pytest -n 3 --dist worksteal || $(BIN)/pytest --last-failed --last-failed-no-failures none

lint: .make/test $(NODE_TOOLS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/zizmor --offline --quiet .github/workflows
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/pre-commit validate-config
	$(BIN)/python tests/release/scan_secrets.py
	$(if $(NODE),$(NODE)biome check,@echo "npm was not found: the JavaScript was not checked")

types: .make/test $(NODE_TOOLS)
	$(BIN)/mypy
	$(if $(NODE),$(NODE)tsc)

unit: .make/test
	$(BIN)/pytest -q -n 2 -m "not postgresql" tests/unit
	$(if $(NODE),node --test --test-reporter=dot tests/unit/web/)

fuzz: .make/test .make/postgresql
	EXAMPLES=$(EXAMPLES) $(BIN)/pytest -n 2 -m "hypothesis or fuzz" --hypothesis-profile=fuzz tests/unit tests/integration

docs: .make/docs
	$(BIN)/python -m sphinx -q -W --keep-going -E -b html docs build/docs
	@echo "The documentation: build/docs/index.html"

notebooks: .make/lab
	$(BIN)/python notebooks/build.py

bench: .make/test
	$(BIN)/python benchmarks

soak: .make/test .make/postgresql
	KILLS=$(KILLS) $(BIN)/pytest tests/kernel/test_kill.py tests/kernel/test_kill_on_a_server.py
	KILLS=$(KILLS) $(BIN)/pytest tests/integration/classroom/test_student.py -k killed
	ROOM=400 $(BIN)/pytest tests/integration/payments/test_exact_limits.py
	STORIES=$(STORIES) $(BIN)/pytest -n 2 tests/integration/studio/test_hostile_merchant.py
	STOPPED=60 CLASS=$(CLASS) $(BIN)/pytest -s tests/kernel/test_class_begins.py tests/integration/classroom/test_class.py tests/integration/classroom/test_two_processes.py
	SEEDS=$(SEEDS) $(BIN)/pytest -n 2 tests/integration/classroom/test_storm.py

# Publishing is manual: after a tag, a maintainer runs `twine upload dist/*`.
release: .make/test .make/release
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/pytest -q tests/release/test_wheel.py

# With a separate home and without keys from the environment, no cell can spend real money.
lab: .make/lab
	env $(WALLETS) BLOCKRUN_HOME="$(CURDIR)/build/lab-home" $(BIN)/python -m jupyterlab $(AS_ROOT) notebooks

# The newest x402 servers and SDK from npm serve as gateways and wallets; needs Node.js. Their install scripts do not run.
peers: .make/test
	mkdir -p build/peers
	cp tests/peers/*.mjs tests/peers/package.json build/peers/
	npm --prefix build/peers install --silent --no-audit --no-fund --ignore-scripts --no-package-lock
	$(BIN)/pytest tests/peers tests/integration/studio/test_peers.py tests/unit/payments/test_official_x402.py

clean:
	rm -rf .venv node_modules .make build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.make/demo: EXTRAS :=
.make/test .make/lab .make/docs .make/release: EXTRAS := [all]

# A stamp marks an installed group; pip runs again when pyproject.toml changes.
.make/demo .make/test .make/lab .make/docs .make/release: .make/%: .make/pip pyproject.toml
	@echo "Installing what '$*' needs into .venv ..."
	@$(PIP) install $(if $(WHEEL),"$(WHEEL)$(EXTRAS)",--editable ".$(EXTRAS)") --group $*
	@touch $@

node_modules/.package-lock.json: package.json package-lock.json
	npm ci --silent

# A link to the browser that was found or installed. When the browser is removed, the target is out of date.
.make/chromium: | .make/test
	@path=$$(PYTHONPATH=tests $(BIN)/python -m harness.chromium) && ln -sf "$$path" $@

# A link to JupyterHub's proxy, which needs Node.
.make/proxy: package-lock.json | .make/test
	@path=$$(PYTHONPATH=tests $(BIN)/python -m harness.node) && ln -sf "$$path" $@

# A link to the programs of PostgreSQL.
.make/postgresql: | .make/test
	@path=$$(PYTHONPATH=tests $(BIN)/python -m harness.postgresql) && ln -sfn "$$path" $@

# Dependency groups need pip 25.1; Python may include an older one.
.make/pip: .venv/pyvenv.cfg
	@$(PIP) install --upgrade "pip>=25.1"
	@mkdir -p $(@D)
	@touch $@

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@$(PYTHON) -m venv .venv
