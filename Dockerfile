# The image of the gateway and of the worker: locked dependencies (torch by version), the application on PYTHONPATH, a
# user without rights. Nothing is written but /tmp and /models, so its root may be read-only.
#   docker build -t steelyard .
#   docker build -t steelyard:gpu --build-arg TORCH_BACKEND=cu130 .
# gateway, or the whole server where no queue is named:  docker run steelyard [--queue redis://…] …
# worker:  docker run --entrypoint python --health-cmd 'python -m service.worker --check' steelyard -m service.worker …
FROM python:3.11-slim AS build
ARG TORCH_BACKEND=cpu
WORKDIR /app
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
COPY Makefile pyproject.toml ./
COPY requirements requirements
RUN make .venv/.server TORCH_BACKEND=${TORCH_BACKEND}

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 steelyard && install -d -o steelyard /models
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY client client
COPY kernels kernels
COPY models models
COPY service service
COPY demo demo
COPY LICENSE ./
# HF_HOME: where models named by their hub id are kept.
ENV PYTHONPATH=/app:/app/client PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/models STEELYARD_HOST=0.0.0.0
# By number, so that Kubernetes can see that it is not root.
USER 10001
EXPOSE 8000 9090
HEALTHCHECK --start-period=120s --timeout=20s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready', timeout=15)"]
ENTRYPOINT ["python", "-m", "service"]
