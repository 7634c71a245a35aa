# One image for all services. Builds with BuildKit and with the engine's own builder.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /build
RUN python3 -m venv /opt/longshore
ENV PATH=/opt/longshore/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

# Every wheel is checked against its hash; a folder `wheelhouse` in the context takes the place of the package index.
COPY constraints.txt wheelhouse* wheelhouse/
RUN set -- wheelhouse/*.whl; \
    if [ -e "$1" ]; then set -- --no-index --find-links wheelhouse; else set --; fi; \
    pip download --quiet "$@" --only-binary :all: --no-deps --require-hashes \
        --requirement wheelhouse/constraints.txt --dest wheels

# Of those wheels, the image gets only what running needs.
COPY LICENSE README.md pyproject.toml ./
COPY packaging/build_hook.py packaging/build_hook.py
COPY longshore longshore
COPY schemas schemas
COPY services services
RUN pip wheel --quiet --no-index --find-links wheels --no-deps --wheel-dir wheels . \
    && pip install --quiet --no-index --find-links wheels longshore \
    && pip uninstall --quiet --yes pip setuptools \
    && python3 -m compileall -q /opt/longshore

FROM ${PYTHON}
RUN useradd --uid 10001 --create-home --home-dir /var/lib/longshore longshore
# Fresh volumes belong to whom these folders belong to: compose.yaml mounts them here to give each service its secret.
RUN cd /mnt && mkdir nats proxy health deployer gateway && chown longshore: *
COPY --from=build /opt/longshore /opt/longshore
ENV PATH=/opt/longshore/bin:$PATH PYTHONUNBUFFERED=1 LONGSHORE_STATE_DIR=/var/lib/longshore
USER longshore
WORKDIR /var/lib/longshore
# As process 1, Python hears SIGINT from its first moment on, but SIGTERM only when a service has asked for it.
STOPSIGNAL SIGINT
# Process 1 watches over the service: one that hangs is killed, and the engine starts the container again.
ENTRYPOINT ["longshore-watch"]
CMD ["--help"]
