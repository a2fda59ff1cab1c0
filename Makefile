# Two targets do all the set-up: `make crawl` and `make test`. Both create .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait as often as they compute: two more than there are cores.
WORKERS = $(shell $(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 2)')
# Without bytecode, each of many hundred processes would compile all of kagglecrawl.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: crawl crawl-s3 store test bench schemas clean

crawl: $(VENV)/.crawl
	$(BIN)/scrapy replica --scale small -- scrapy crawl datasets -O output/datasets.jsonl -s DOWNLOAD_DELAY=0
	$(BIN)/scrapy replica --scale small -- scrapy crawl competitions -O output/competitions.jsonl
	$(BIN)/scrapy replica --scale small -- scrapy crawl halite_episodes -a request_budget=40 -O output/episodes.jsonl

# The same into a bucket of a real store, which is gone when it ends.
crawl-s3: $(VENV)/.dev
	$(BIN)/python -m tests.store weed -- $(BIN)/scrapy replica --scale small -- scrapy crawl datasets -O output/datasets-s3.jsonl -s DOWNLOAD_DELAY=0 -s S3_URI=s3://harvest/kaggle -s WORKSPACE=local_workspace_s3

store: $(VENV)/.dev
	$(BIN)/python -m tests.store weed

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	TMPDIR=$$($(BIN)/python -m tests.room) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -o tmp_path_retention_policy=failed

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.scheduler
	$(BIN)/python -m benchmarks.transfers
	$(BIN)/python -m benchmarks.markdown
	$(BIN)/python -m benchmarks.tables
	$(BIN)/python -m benchmarks.episodes
	$(BIN)/python -m benchmarks.episode_tables
	$(BIN)/python -m benchmarks.replays
	$(BIN)/python -m benchmarks.pace
	$(BIN)/python -m benchmarks.budget
	$(BIN)/python -m benchmarks.million
	$(BIN)/python -m benchmarks.kills
	$(BIN)/python -m benchmarks.transfer_kills
	$(BIN)/python -m benchmarks.s3
	$(BIN)/python -m benchmarks.s3_kills

schemas: $(VENV)/.crawl
	$(BIN)/python -m kagglecrawl.items docs/schemas

$(BIN)/uv:
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"kagglecrawl needs Python 3.11 or newer; {sys.executable} is {v[0]}.{v[1]}. Name another: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

$(VENV)/.crawl: requirements.txt | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.crawl
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) output local_workspace local_workspace_s3
