# make quickstart   set up, then train and show the embedded task
# make test         set up, then lint, types, imports and all tests
# make format       lint fixes and formatting
# make docs         write docs/configuration.md from the schema, and build the site in site/
# make wheel        build dist/plaudit-VERSION-py3-none-any.whl
#
# The set-up is in .venv and is repeated only when pyproject.toml or constraints.txt changes.
# To use another Python: make quickstart PYTHON=python3.12. To configure pip, set its own PIP_... variables.

PYTHON ?= python3
TEST_WORKERS ?= 2

bin := .venv/bin
pip := $(bin)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
requirements := pyproject.toml constraints.txt

.PHONY: quickstart test format docs wheel

quickstart: .venv/installed
	$(bin)/plaudit run quickstart

# One torch thread per worker: the tests' models are too small for more. A file's tests share fixtures, so one worker runs
# them all, and in their order, because the last files are short.
test: .venv/installed-for-tests
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy
	$(bin)/lint-imports --no-cache
	OMP_NUM_THREADS=1 $(bin)/pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

format: .venv/installed-for-tests
	$(bin)/ruff check --fix
	$(bin)/ruff format

docs: .venv/installed-for-docs
	$(bin)/python -m plaudit.config.reference
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict --quiet

wheel: .venv/installed-for-tests
	$(bin)/python -m pip wheel . --quiet --no-deps --no-build-isolation --wheel-dir dist

$(bin)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo '$(PYTHON) is not Python 3.11 or newer. Name another: make PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv .venv

# torch first: if pip's index has a CPU build of the pinned version, this avoids gigabytes of CUDA libraries.
.venv/installed: $(requirements) | $(bin)/python
	$(pip) torch
	$(pip) --editable '.[cpu]'
	touch $@

.venv/installed-for-docs: $(requirements) | $(bin)/python
	$(pip) torch
	$(pip) --editable '.[cpu,docs]'
	touch $@ .venv/installed

.venv/installed-for-tests: $(requirements) | $(bin)/python
	$(pip) torch
	$(pip) --editable '.[test,stories,tensorboard]'
	touch $@ .venv/installed
