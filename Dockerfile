# Serves a bundle over HTTP on processors, without torch:
#   docker build -t resnetkit .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/model.safetensors:/model.safetensors:ro" resnetkit
# For other machines, with keys (see docs/serve.md):
#   docker run --rm -p 8000:8000 -v "$PWD/model.safetensors:/model.safetensors:ro" \
#     -v "$PWD/keys:/keys:ro" resnetkit /model.safetensors --api-key-file /keys
FROM python:3.11-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir '.[fast,openvino,serve]' \
    && /venv/bin/pip uninstall --yes pip setuptools

FROM python:3.11-slim
COPY --from=build /venv /venv
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin resnetkit
USER 10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --start-period=30s --interval=10s --timeout=3s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["resnetkit", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/model.safetensors", "--insecure"]
