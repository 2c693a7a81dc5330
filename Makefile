# Every command of the project. Each is a line or two around a tool, which can be typed by hand
# where make is missing (on Windows: .venv\Scripts instead of .venv/bin). TORCH=cpu, cuda or default
# chooses the build of PyTorch; without it, the set-up does.

PYTHON ?= python3
BIN := .venv/bin
SET_UP := $(PYTHON) -m fmnist_lib.install
BENCH := .venv-bench
IN_BENCH = $(BIN)/uv pip install --python $(BENCH)/bin/python --no-deps
EXAMPLE := book/learning_rate
EXTRAS := notebooks book tensorboard setup
# Test files run in parallel on a core each; a file stays whole, so its fixtures are made once.
TESTS := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile
CHAPTERS := $(sort $(wildcard notebooks/*.ipynb))
# Chapters run in other folders. (Make's own abspath would split the path at a space.)
ifdef FMNIST_DATA
override FMNIST_DATA := $(or $(shell cd '$(subst ','\'',$(FMNIST_DATA))' 2>/dev/null && pwd),$(FMNIST_DATA))
export FMNIST_DATA
endif

.PHONY: ready tools help course check test browser-test check-portability mutants lab kit book data \
  debian-data bench notebooks claims cards measured example sync picture links lock clean
.DEFAULT_GOAL := help

help:  ## list these commands
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "%-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Both do nothing if everything is in place; `tools` adds what the tests need.
ready:
	@$(SET_UP)
tools:
	@$(SET_UP) --with test

course: data book  ## set up, fetch the data, run all chapters, render the site
	$(BIN)/fmnist course

check: tools  ## lint, and the tests that need no kernel, cluster or browser (2 min)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(TESTS) -m "not slow"

test: tools data  ## set up, then check everything: lint, unit tests, chapters, site (30 min)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) book
	$(TESTS)
	$(BIN)/pytest --nbval --nbval-cell-timeout=900 notebooks
	$(MAKE) browser-test

browser-test: tools  ## test the built site in Chromium: every page, keyboard, print
	$(BIN)/pytest -n auto tests/browser

check-portability: tools data  ## run the chapters on this machine made to look like others (VARIANTS=6)
	$(BIN)/python benchmarks/portability.py $(if $(VARIANTS),--number $(VARIANTS))

# ONLY='fmnist_lib.data.*' changes one module; then '.venv/bin/mutmut show NAME' shows a change.
mutants: tools data  ## change the library in thousands of places, and list what no test notices (3 h)
	rm -rf mutants
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py $(if $(ONLY),'$(ONLY)')

lab: data  ## open JupyterLab at the first chapter, exercises unsolved (your copies: runs/student)
	$(BIN)/fmnist student runs/student
	$(BIN)/jupyter lab --ServerApp.root_dir=. runs/student/01_data_exploration.ipynb

kit: data book  ## pack everything a class without a network needs into runs/course.zip
	$(BIN)/fmnist kit runs/course.zip

book: ready  ## render the site from the committed chapters
	$(BIN)/jupyter-book build --quiet --warningiserror --keep-going --path-output book \
	  --config book/_config.yml --toc book/_toc.yml .

# Where no mirror answers, Debian's package is unpacked (not installed), if apt-get is there.
data: ready  ## find or fetch the data set, and verify it
	@$(BIN)/fmnist data || (command -v apt-get > /dev/null && $(MAKE) --no-print-directory debian-data)

PACKAGE := dataset-fashion-mnist
UNPACKED := .venv/debian
debian-data:
	rm -rf $(UNPACKED) && mkdir $(UNPACKED)
	cd $(UNPACKED) && (apt-get download $(PACKAGE) || (apt-get update && apt-get download $(PACKAGE)))
	cd $(UNPACKED) && dpkg-deb -x $(PACKAGE)*.deb .
	$(BIN)/fmnist data --data $(UNPACKED)/usr/share/datasets/fashion-mnist
	rm -r $(UNPACKED)

# Other projects' contenders get an environment of their own, so that the course stays light.
bench: data $(BENCH)/.ready  ## compare training with what people use today (40 min, 16 GB)
	$(BENCH)/bin/python benchmarks/bench.py $(if $(DEVICE),--device $(DEVICE) --output runs/bench)

notebooks: data  ## run the chapters in place and keep their outputs
	$(BIN)/jupyter nbconvert --to notebook --inplace --execute $(CHAPTERS)
	$(BIN)/jupyter nbconvert --coalesce-streams --ClearMetadataPreprocessor.enabled=True \
	  --ClearMetadataPreprocessor.clear_notebook_metadata=False \
	  --ClearMetadataPreprocessor.preserve_cell_metadata_mask=tags \
	  --ClearMetadataPreprocessor.preserve_cell_metadata_mask=jupyter \
	  --ClearMetadataPreprocessor.preserve_cell_metadata_mask=mystnb $(CHAPTERS)
	$(MAKE) claims cards picture

claims: ready  ## list the claims of the chapters' outputs on a page of the site
	$(BIN)/python book/make_claims.py

cards: ready  ## make the model cards from the networks that make notebooks trained
	$(BIN)/fmnist card notebooks/trained/02_cnn -o book/model_card_cnn.md
	$(BIN)/fmnist card notebooks/trained/03_dilated_cnn -o book/model_card_dilated_cnn.md

measured: data  ## measure again what takes too long for a chapter: ten seeds, label noise (90 min)
	$(BIN)/python benchmarks/seeds.py
	$(BIN)/python benchmarks/label_noise.py
	$(BIN)/python benchmarks/chapter_times.py

example: data  ## run the sweep that the site shows again (8 min)
	rm -rf runs/learning_rate
	mkdir -p $(EXAMPLE)
	$(BIN)/fmnist sweep $(EXAMPLE).yml --dry-run > $(EXAMPLE)/dry_run.txt
	$(BIN)/fmnist sweep $(EXAMPLE).yml > $(EXAMPLE)/sweep.txt
	$(BIN)/fmnist results runs/learning_rate > $(EXAMPLE)/results.txt
	cp runs/learning_rate/results.png $(EXAMPLE)

sync: tools  ## bring notebooks and scripts into step: the newer one wins
	$(BIN)/jupytext --sync $(CHAPTERS) benchmarks/training.ipynb
	$(BIN)/ruff format .
	$(BIN)/jupytext --sync $(CHAPTERS) benchmarks/training.ipynb

picture: ready  ## make the README's picture from the chapters' outputs
	$(BIN)/python book/make_picture.py

links: ready  ## write links to Colab and Binder, or remove them: see Repository in pyproject.toml
	$(BIN)/python book/_ext/links.py

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header $(if $(UPGRADE),--upgrade)
lock: ready  ## pin the packages of pyproject.toml (UPGRADE=1: the newest that it allows)
	$(COMPILE) pyproject.toml $(EXTRAS:%=--extra %) --output-file requirements.lock
	$(COMPILE) --group test --constraint requirements.lock --output-file tests/requirements.lock
	$(COMPILE) pyproject.toml --extra bench --constraint requirements.lock \
	  --output-file benchmarks/requirements.lock

clean:  ## remove what these commands made: environment, course, site; not the data, not runs/
	rm -rf .venv .venv-bench runs/course notebooks/trained book/_build .pytest_cache .hypothesis mutants
	find . \( -name __pycache__ -o -name .ruff_cache -o -name .ipynb_checkpoints \) -prune \
	  -exec rm -rf {} +

# Where the contenders cannot be installed, the table says so, and the others are measured.
$(BENCH)/.ready: requirements.lock benchmarks/requirements.lock pyproject.toml | ready
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(BENCH)
	$(IN_BENCH) --require-hashes -r requirements.lock
	-$(IN_BENCH) --require-hashes -r benchmarks/requirements.lock
	$(IN_BENCH) --no-build-isolation --editable .
	touch $@
