# The server's image: locked dependencies (torch by version), the application on PYTHONPATH, a user without rights.
#   docker build -t steelyard .
#   docker build -t steelyard:gpu --build-arg TORCH_BACKEND=cu130 .
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
ENV PYTHONPATH=/app:/app/client PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 STEELYARD_HOST=0.0.0.0
USER steelyard
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready', timeout=15)"]
ENTRYPOINT ["python", "-m", "service"]
