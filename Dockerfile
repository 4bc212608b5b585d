# The image of the workers and of every `tokentide` command. Kafka and ClickHouse have images of their own, so the
# extra `embedded` is left out. All packages come from requirements.lock, by hash.
FROM python:3.11-slim-bookworm AS build

RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /src

# Before the source, so that a change of code does not install the packages again.
COPY pyproject.toml requirements.lock ./
RUN uv venv /opt/tokentide \
    && uv pip install --python /opt/tokentide/bin/python --require-hashes --constraint requirements.lock \
        --requirements pyproject.toml --extra console --extra ingest

COPY LICENSE README.md ./
COPY schemas schemas
COPY producers producers
COPY streams streams
COPY sinks sinks
COPY console console
RUN uv build --wheel --require-hashes --build-constraint requirements.lock --out-dir /dist \
    && uv pip install --python /opt/tokentide/bin/python --no-deps /dist/*.whl

FROM python:3.11-slim-bookworm

RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/tokentide tokentide
COPY --from=build /opt/tokentide /opt/tokentide
ENV PATH=/opt/tokentide/bin:$PATH PYTHONUNBUFFERED=1 TOKENTIDE_WORK_DIR=/var/lib/tokentide
USER tokentide
WORKDIR /var/lib/tokentide
ENTRYPOINT ["tokentide"]
CMD ["--help"]
