# Two commands, each from a bare clone: `make demo` shows the main job, `make test` checks everything.
# Both make .venv when it is missing or pyproject.toml has changed, and otherwise start at once.

PYTHON ?= python3
VENV := .venv
# Threads that wait by spinning make a shared machine many times slower.
export OMP_WAIT_POLICY ?= PASSIVE
STAMP := $(VENV)/installed
# Node is in the environment too; what web/ needs is installed again when its lock file changes.
NPM := PATH="$(CURDIR)/$(VENV)/bin:$$PATH" npm --prefix web
MODULES := web/node_modules/installed
CHECKED := src tests benchmarks demo examples docs/*.py docs/figures/*.py hubconf.py
PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal

.PHONY: demo test types lint web coverage slow docs bundle notebooks clean

demo: $(STAMP)
	$(VENV)/bin/python demo/demo.py

# Both cores are busy from the first minute: the checks run side by side.
test: $(STAMP) $(MODULES)
	+@$(MAKE) --no-print-directory --jobs=2 --output-sync types lint web
	$(VENV)/bin/pytest $(PARALLEL)

types: $(STAMP)
	$(VENV)/bin/mypy

lint: $(STAMP)
	$(VENV)/bin/ruff format --check $(CHECKED)
	$(VENV)/bin/ruff check $(CHECKED)
	$(VENV)/bin/lint-imports
	$(VENV)/bin/codespell src tests benchmarks demo docs examples web/src web/test *.md web/*.md

web: $(STAMP) $(MODULES)
	$(NPM) run --silent typecheck
	$(NPM) run --silent test
	$(NPM) run --silent check

# The tests again, with the share of lines and branches of src that they run; pyproject.toml has the
# least share.
coverage: $(STAMP)
	$(VENV)/bin/pytest $(PARALLEL) --cov --cov-report=term --cov-report=html:build/coverage

# The sweeps that take minutes; .ci/run runs them after `make test`. torch.compile needs a compiler,
# the page of `resnetkit view` a browser, the tests of several hosts network namespaces (and root)
# and SLURM.
slow: $(STAMP) $(MODULES)
	@command -v g++ >/dev/null || .ci/system_packages g++ python3-dev
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  .ci/system_packages chromium
	@command -v ip >/dev/null || .ci/system_packages iproute2
	@command -v slurmctld >/dev/null || \
	  .ci/system_packages slurmctld slurmd slurm-client munge
	$(VENV)/bin/pytest $(PARALLEL) -m slow --durations=30

# The documentation site, in build/site; a broken link is an error.
docs: $(STAMP)
	$(VENV)/bin/python docs/copy_pages.py build/docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet

# Scripts and styles of pages, from web/ into the package; `make test` compares them.
bundle: $(STAMP) $(MODULES)
	$(NPM) run --silent build

# Runs the example notebooks and writes their outputs.
notebooks: $(STAMP)
	$(VENV)/bin/python examples/execute.py

# Debian's python3 has no ensurepip until python3-venv is installed.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/system_packages python3-venv
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $(STAMP)

$(MODULES): web/package-lock.json $(STAMP)
	$(NPM) ci --silent
	$(NPM) run --silent runtime
	touch $(MODULES)

clean:
	rm -rf $(VENV) web/node_modules .coverage build runs .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
