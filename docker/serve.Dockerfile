# TensorFlow Serving with a model that pixelvae-export wrote, on ports 8500 (gRPC) and 8501 (REST).
#
#   pixelvae-export --pretrained=digits/gated_pixel_vae --export_dir=models/digits
#   docker build -f docker/serve.Dockerfile --build-arg MODEL=digits -t pixelvae-serve models
#   docker run --rm -p 8500:8500 -p 8501:8501 pixelvae-serve
FROM tensorflow/serving:2.19.1

ARG MODEL
COPY --chown=1000 ${MODEL} /models/${MODEL}
ENV MODEL_NAME=${MODEL}
USER 1000
