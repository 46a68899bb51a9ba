# make app    the app on the demo dataset and the demo model, on a machine with only Python 3.11+ and make
# make test   lint, types, import contracts, unit, parity, flow and browser tests; with CI=true those marked slow, too
# make quick  the same without what is marked slow or needs a browser
# make lint / make format
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export GRADIO_ANALYTICS_ENABLED := False

.PHONY: app test quick lint format clean

app: $(VENV)/.runtime
	@$(BIN)/python app.py --open $(ARGS)

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(if $(CI),,-m "not slow") $(ARGS)

quick: $(VENV)/.dev lint
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder -m "not slow and not browser" $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A stamp is newer than the requirements it was installed from, so that the second run installs nothing.
$(VENV)/.runtime: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --progress-bar off -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --progress-bar off -r requirements-dev.txt
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "mindviz needs Python 3.11 or newer; found $$($(PYTHON) --version 2>&1). Try make PYTHON=python3.12 app" >&2; exit 2; }
	@echo "Creating $(VENV) and installing the requirements; this happens once and takes some minutes."
	@test -e $(VENV) || fresh=$(VENV); $(PYTHON) -m venv $(VENV) || { rm -rf $(BIN)/python $$fresh; \
		echo "mindviz could not create $(VENV). On Debian or Ubuntu: sudo apt install python3-venv, then make again." >&2; exit 2; }

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
