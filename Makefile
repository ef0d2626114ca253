# Everything runs in .venv, which the first target makes from the versions in constraints.txt.
PYTHON ?= python3
RUN := runs/quickstart
BIN := .venv/bin
# A process a core, a file at a time: what a file's tests share is made once.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: quickstart test test-all lint docs wheel clean

.venv/installed: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

# Train, evaluate, export, check and sample the 8x8 digits that scikit-learn carries.
quickstart: .venv/installed
	$(BIN)/pixelvae-train --config=digits/gated_pixel_vae --workdir=$(RUN)
	$(BIN)/pixelvae-evaluate --workdir=$(RUN) --split=test --importance_samples=50 > $(RUN)/test.json
	$(BIN)/pixelvae-export --workdir=$(RUN) --export_dir=$(RUN)/saved_model
	$(BIN)/pixelvae-sample --saved_model=$(RUN)/saved_model --output=$(RUN)/served_samples.png
	$(BIN)/python benchmarks/quickstart.py $(RUN)

test: .venv/installed
	$(BIN)/python -m pytest $(PARALLEL) -m 'not slow'

test-all: .venv/installed
	$(BIN)/python -m pytest $(PARALLEL)

lint: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m mypy

# The site, in build/site. mkdocstrings reads the package as it is installed, with train and export inside.
docs: .venv/installed
	rm -rf build/lib && mkdir -p build/lib && cp -r pixelvae_tf train export build/lib
	mv build/lib/train build/lib/export build/lib/pixelvae_tf
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: .venv/installed
	rm -rf build/lib  # else what an earlier build left there is packed too
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf .venv build dist
