# Every role in one image: `docker run IMAGE router --redis URL`. docs/containers.md has how it is
# run, and what is in it.

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_ONLY_BINARY=:all:
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends tini
WORKDIR /src
COPY requirements-build.lock requirements-image.lock ./
# The tests of packages are a tenth of their size.
RUN pip install --require-hashes -r requirements-build.lock \
    && python -m venv --without-pip /opt/carbon-orchestrator \
    && pip --python /opt/carbon-orchestrator/bin/python install --require-hashes -r requirements-image.lock \
    && find /opt/carbon-orchestrator -type d -name tests -prune -exec rm -r {} +
COPY package.json package-lock.json .npmrc requirements-node.lock ./
COPY scripts/assets.sh scripts/
RUN scripts/assets.sh
COPY . .
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/carbon-orchestrator/bin/python install --no-index --no-deps /wheels/*.whl

FROM python:3.11-slim
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="carbon-orchestrator" \
      org.opencontainers.image.description="Runs AI and batch jobs when and where they emit the least carbon" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="python:3.11-slim"
# A volume that is mounted on /data for the first time gets its owner.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin carbon \
    && install --directory --owner=carbon --group=carbon --mode=0700 /data
# As process 1 it passes signals on, and reaps what jobs leave behind, which a role does not.
COPY --from=build /usr/bin/tini-static /usr/local/bin/tini
COPY --from=build /opt/carbon-orchestrator /opt/carbon-orchestrator
ENV PATH=/opt/carbon-orchestrator/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    CARBON_DATA_DIR=/data CARBON_PROBE_PORT=8081
USER 10001:10001
WORKDIR /data
EXPOSE 8000
# Of any role; it does not ask for the stream server, whose absence a restart would not mend.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['CARBON_PROBE_PORT']), timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["tini", "--", "carbon-orchestrator"]
CMD ["--help"]
