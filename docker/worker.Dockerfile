# A worker for one NVIDIA GPU: decoders, ONNX Runtime with CUDA, the bundled models.
#   docker build --file docker/worker.Dockerfile --tag video-scene-graph-worker:0.2.0 .
# cuBLAS, cuDNN and the rest of CUDA come as wheels, in the versions that constraints.txt pins, so CUDA's smallest image
# is enough: it lets CUDA 13 run on the older drivers of data centres, and declares which driver it needs.
ARG BASE=docker.io/nvidia/cuda:13.0.1-base-ubuntu24.04@sha256:f8ef28f579ea42a44b415d2c5d46f788e6a9b395c6c83f2929416e1fc192c143

FROM ${BASE} AS python
# Within one release of Ubuntu only fixes make these packages newer.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libseccomp2 python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM python AS builder
WORKDIR /build
RUN python3 -m venv /opt/venv
# Dependencies first, without our packages: changed code then does not install CUDA again.
COPY docker/requirements/worker.txt requirements.txt
# The list has all that is needed: pip installs nothing else, and checks that nothing is missing.
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes --requirement requirements.txt \
    && /opt/venv/bin/pip check
# For the engines onnxruntime-tensorrt and tensorrt: --build-arg TENSORRT=10.16.1.11. ONNX Runtime 1.31 needs 10, not 11.
ARG TENSORRT=
RUN test -z "${TENSORRT}" || /opt/venv/bin/pip install --no-cache-dir "tensorrt-cu13==${TENSORRT}"
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY models models
COPY service service
COPY benchmarks benchmarks
COPY vsg vsg
RUN /opt/venv/bin/pip install --no-cache-dir --no-build-isolation --no-deps --target /opt/vsg . \
    && /opt/venv/bin/pip uninstall --yes pip setuptools
# ONNX Runtime finds TensorRT's libraries through the linker; the name of their folder has Python's version in it.
RUN mkdir -p /opt/tensorrt \
    && find /opt/venv -path '*/tensorrt_libs/*.so*' -exec ln --symbolic --target-directory=/opt/tensorrt {} +

FROM python
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /opt/tensorrt /opt/tensorrt
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vsg \
    && install --directory --owner=vsg --group=vsg --mode=0700 /data /cache \
    && echo /opt/tensorrt >/etc/ld.so.conf.d/tensorrt.conf \
    && ldconfig
COPY bundles /opt/vsg/bundles
COPY --from=builder /opt/vsg /opt/vsg
COPY docker/health.py /opt/vsg/health.py
# CUDA does not compute in int8, so arn-compact-int8 is left out.
ENV PATH=/opt/vsg/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/vsg \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    VSG_DATA=/data \
    VSG_ENGINE=onnxruntime-cuda \
    VSG_ENGINE_CACHE=/cache \
    VSG_BUNDLES=bundles/arn-compact:bundles/sttran-rs-net-compact:bundles/tr2-rs-net-compact \
    VSG_METRICS_HOST=0.0.0.0 \
    VSG_METRICS_PORT=9100
USER 10001
# Where `vsg` looks for ./bundles.
WORKDIR /opt/vsg
VOLUME /data /cache
EXPOSE 9100
# TensorRT may build its engines for minutes before the first job.
HEALTHCHECK --interval=15s --timeout=10s --start-period=900s --retries=3 CMD ["python", "/opt/vsg/health.py", "9100"]
ENTRYPOINT ["vsg"]
CMD ["worker"]
