# Trains and evaluates. With GPUs, on a host that has NVIDIA's container toolkit: docker run --gpus=all ...
#
#   docker build -f docker/train.Dockerfile -t pixelvae-train .
#   mkdir -p runs
#   docker run --rm --user "$(id -u)" -v "$PWD/runs:/work/runs" pixelvae-train --config=digits/gated_pixel_vae --workdir=runs/digits
FROM python:3.11-slim AS build
COPY . /src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM python:3.11-slim
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt "$(ls /wheels/*.whl)[gpu,tfds]" \
    && mkdir --mode=1777 /work
USER 1000
WORKDIR /work
# Where TFDS and Keras keep what they download, whoever the user is.
ENV HOME=/work
ENTRYPOINT ["pixelvae-train"]
