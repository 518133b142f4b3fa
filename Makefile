# Two commands do everything: `make lab` and `make test`. Both set up what is missing.
#
#   make lab CPU=1         take PyTorch's build without CUDA (Linux, no NVIDIA GPU)
#   make lab PYTHON=...    use this Python (3.11 or newer) for the environment
#   make notebook NB=04    copy the package's code into notebook 4 and run it anew

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
INDEX := $(if $(CPU),--extra-index-url https://download.pytorch.org/whl/cpu)
# Jupyter refuses to start as root, which is what containers usually are.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: lab test stress setup notebook outputs pages lint clean site site-serve test-site

# You work in copies: reading changes no file of the repository.
lab: $(STAMP)
	$(BIN)/python tools/lab.py
	$(BIN)/jupyter lab --ip=127.0.0.1 $(ROOT) $(LAB) \
	    --LabApp.default_url=/lab/tree/my_notebooks/01_liif.ipynb

# Each test process takes one core, so torch must not take more.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

# Interrupted trainings and all notebooks in odd places: half an hour.
stress: $(STAMP)
	ASR_STRESS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal \
	    tests/test_interrupts.py tests/test_notebook_behaviour.py tests/test_browser.py

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + \
	    ". Try: make lab PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(INDEX) -c constraints.txt -e '.[test]'
	@touch $@

# After a change of the package: its code into the teaching cells, and outputs anew.
notebook: $(STAMP)
	$(BIN)/python tools/notebooks.py sync $(NB)
	$(BIN)/python tools/notebooks.py outputs $(NB)

# Run notebooks and store their outputs: one with NB=04, else all (half an hour).
outputs: $(STAMP)
	$(BIN)/python tools/notebooks.py outputs $(NB)

# Write the tables of README.md and docs/ from data/results.
pages: $(STAMP)
	$(BIN)/python tools/pages.py

# The website, from the notebooks as they are, into _site/. Needs npm.
site: $(STAMP) site/node_modules
	$(BIN)/python -m pip install -q $(INDEX) -c constraints.txt -e '.[site]'
	$(BIN)/python site/build.py

site/node_modules: site/package-lock.json
	cd site && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

site-serve:
	$(PYTHON) -m http.server --bind 127.0.0.1 --directory _site 8000

test-site: site
	ASR_REQUIRE_SITE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_site.py tests/test_export.py

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean:
	rm -rf .venv runs _site site/build site/node_modules
