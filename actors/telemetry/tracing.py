"""Which tracer to use, decided once when a runner or a client starts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from actors.telemetry.hooks import NoTracer

if TYPE_CHECKING:
    from actors.telemetry.hooks import Tracer


def tracer() -> Tracer:
    """Return a tracer for the provider that is set now, or one that makes nothing.

    Where the application has set no provider nothing is spent: even a no-op span would
    cost more than the rest of a send. A provider set later is not seen.
    """
    # A program that has set a provider has imported this module; importing it for the
    # others would add 50 ms to each of their starts.
    if "opentelemetry.trace" not in sys.modules:
        return NoTracer()
    from opentelemetry import trace  # noqa: PLC0415 - see above

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return NoTracer()
    from actors.telemetry.otel import OtelTracer  # noqa: PLC0415 - see above

    return OtelTracer(provider)
