# One runner of the examples. Your own application: the same, with your code in place of examples/.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY actors actors
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
RUN useradd --system --uid 10001 runner
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -r /wheels
WORKDIR /app
COPY examples examples
USER runner
ENV PYTHONUNBUFFERED=1
EXPOSE 9400
# SIGTERM drains; give it longer than ACTORS_DRAIN_TIMEOUT before SIGKILL.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9400/readyz', timeout=2)"]
CMD ["actor-runner", "run", "examples.bank:system"]
