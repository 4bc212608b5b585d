# Each target makes .venv first: with uv when it is installed, else with python3 -m venv and pip. Everything comes
# from requirements.lock, by hash, also hatchling, which then builds the project: so nothing is built with what a
# registry happens to hold today.
PYTHON ?= $(shell for each in python3.11 python3 python; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
STAMP := .venv/.installed

.PHONY: demo test test-all faults bench lint lock

$(STAMP): requirements.lock pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python "$(or $(PYTHON),3.11)" .venv && \
		uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.lock && \
		uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .; \
	elif [ -z "$(PYTHON)" ]; then \
		echo "tokentide needs Python 3.11 or newer; install it, or run: make PYTHON=/path/to/python3.11" >&2; exit 2; \
	else \
		$(PYTHON) -m venv .venv && \
		.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
		.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	fi
	@touch $(STAMP)

# make demo TRACE=FILE replays a recorded trace; without one the demo generates its own.
demo: $(STAMP)
	.venv/bin/tokentide demo $(if $(TRACE),--trace "$(TRACE)")

# Two processes, each of which takes the next whole file: what a file starts for its tests starts once. JOBS=0 is one process.
PYTEST = .venv/bin/python -m pytest --numprocesses $(or $(JOBS),2) --dist loadfile --no-loadscope-reorder

test: $(STAMP)
	$(PYTEST) -m "not slow"

test-all: $(STAMP)
	$(PYTEST) --durations=15

# make faults SEEDS=20 SEED0=1 JOBS=2 plays 20 fault schedules from seed 1 on, two at once.
faults: $(STAMP)
	cd tests && ../.venv/bin/python -m faults --seeds $(or $(SEEDS),20) --seed0 $(or $(SEED0),1) --jobs $(or $(JOBS),1)

# make bench QUICK=1 is one round of fewer events.
bench: $(STAMP)
	.venv/bin/python benchmarks/race.py $(if $(QUICK),--quick)

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# Needs uv; keeps every version that still fits.
lock:
	UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile --universal --python-version 3.11 --all-extras --group dev \
		pyproject.toml --generate-hashes --no-emit-index-url --no-emit-find-links --quiet -o requirements.lock
