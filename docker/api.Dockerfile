# The API of a fleet, without engine, decoder, model or CUDA. Workers make the graphs and announce their models.
#   docker build --file docker/api.Dockerfile --tag video-scene-graph-api:0.2.0 .
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

FROM ${BASE} AS builder
WORKDIR /build
RUN python3 -m venv /opt/venv
# Dependencies first, without our packages: changed code then does not install them again.
COPY docker/requirements/api.txt requirements.txt
# The list has all that is needed: pip installs nothing else, and checks that nothing is missing.
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes --requirement requirements.txt \
    && /opt/venv/bin/pip check
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY models models
COPY service service
COPY vsg vsg
RUN /opt/venv/bin/pip install --no-cache-dir --no-build-isolation --no-deps --target /opt/vsg . \
    && /opt/venv/bin/pip uninstall --yes pip setuptools

FROM ${BASE}
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vsg \
    && install --directory --owner=vsg --group=vsg --mode=0700 /data
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /opt/vsg /opt/vsg
COPY docker/health.py /opt/vsg/health.py
ENV PATH=/opt/vsg/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/vsg \
    PYTHONUNBUFFERED=1 \
    VSG_HOST=0.0.0.0 \
    VSG_DATA=/data
USER 10001
WORKDIR /opt/vsg
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=3 CMD ["python", "/opt/vsg/health.py", "8000"]
ENTRYPOINT ["vsg"]
CMD ["serve"]
