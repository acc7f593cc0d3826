# The worker's image: `make image`. Runs as 65532 on a read-only root; needs no shell.
# Any image with python3 (3.11 or newer), pip and apt will do as a base; give production's by digest:
# --build-arg BASE=docker.io/library/python:3.13-slim-bookworm@sha256:…
ARG BASE=docker.io/library/python:3.13-slim-bookworm

FROM ${BASE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini=0.19.* \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements-build.lock requirements-image.lock ./
# Two environments: what builds the wheel stays here. Bytecode is made now: nothing can be written later.
RUN python3 -m venv --without-pip /opt/build \
    && python3 -m venv --without-pip /opt/followers \
    && python3 -m pip --python /opt/build/bin/python install --no-cache-dir --require-hashes -r requirements-build.lock \
    && python3 -m pip --python /opt/followers/bin/python install --no-cache-dir --require-hashes -r requirements-image.lock
COPY pyproject.toml LICENSE ./
COPY schemas schemas
COPY worker worker
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /tmp/wheel \
    && python3 -m pip --python /opt/followers/bin/python install --no-cache-dir --no-deps --no-index /tmp/wheel/*.whl

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="followers-worker" \
      org.opencontainers.image.description="Follower lists of eTelecom and eSMS, fetched by command over NATS JetStream" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /usr/bin/tini-static /usr/bin/tini
COPY --from=build /opt/followers /opt/followers
ENV PATH=/opt/followers/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /
USER 65532:65532
EXPOSE 8080
# Python takes 0.3 s until it has a handler, and process 1 loses signals until then. tini has one at once, and ends with 0
# when the SIGTERM that it passed on came before Python's handler (-e 143), also where it isn't process 1 (-s).
ENTRYPOINT ["/usr/bin/tini", "-s", "-e", "143", "--", "/opt/followers/bin/followers"]
CMD ["worker"]
