# Each target makes .venv first; with uv when it is installed, else with python3 -m venv and pip.
PYTHON ?= python3
STAMP := .venv/.installed

.PHONY: demo test test-all lint lock

$(STAMP): requirements.lock pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python ">=3.11" .venv && \
		uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.lock && \
		uv pip install --quiet --python .venv/bin/python --no-deps -e .; \
	else \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tokentide needs Python 3.11 or newer; run make PYTHON=/path/to/python3.11")' && \
		$(PYTHON) -m venv .venv && \
		.venv/bin/python -m pip install --quiet --require-hashes -r requirements.lock && \
		.venv/bin/python -m pip install --quiet --no-deps -e .; \
	fi
	@touch $(STAMP)

demo: $(STAMP)
	.venv/bin/tokentide demo $(if $(TRACE),--trace $(TRACE))

test: $(STAMP)
	.venv/bin/python -m pytest -m "not slow"

test-all: $(STAMP) lint
	.venv/bin/python -m pytest

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

lock:
	uv pip compile --universal --python-version 3.11 --all-extras --group dev pyproject.toml \
		--generate-hashes --no-emit-index-url --no-emit-find-links --quiet -o requirements.lock
