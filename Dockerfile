# The server with the embedded guard: no download, no GPU. Build and run, from the folder of this file:
#   docker build -t guardreasoner .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -p 8080:8080 -e GUARDREASONER_SERVER_KEYS="$(openssl rand -hex 32)" guardreasoner
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY guardreasoner_sdk guardreasoner_sdk
COPY integrations integrations
COPY training training
RUN python -m venv /app && /app/bin/pip install --no-cache-dir --no-compile '.[server]'

FROM python:3.12-slim
COPY --from=build /app /app
# Nobody's number, so that Kubernetes can tell that it is not root.
USER 65532:65532
ENV PATH=/app/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 GUARDREASONER_SERVER_HOST=0.0.0.0
EXPOSE 8080
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=3)"]
CMD ["guardreasoner", "serve"]
