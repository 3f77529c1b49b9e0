"""What the endpoint did, for Prometheus.

Labels are the words of whoever asks, so there is an end to them: a service and kind has series of its own when an agent
has answered it, and while there are fewer than MAX_PAIRS; the rest is "other".
"""

from collections.abc import Callable

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from agentplatform.endpoint.outcome import Label

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
MAX_PAIRS = 200
MAX_LABEL = 64  # characters of a kind
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
OTHER = "other", "other"


class Metrics:
    def __init__(self, agents: Callable[[], int]) -> None:
        """`agents()`: how many live on this host."""
        self._registry = CollectorRegistry()
        self._pairs: set[tuple[str, str]] = set()
        self._requests = Counter(
            "agentplatform_requests_total",
            "Requests over HTTP, by what came of them",
            ("service", "kind", "outcome"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "agentplatform_request_seconds",
            "From a request's head to its answer",
            ("service", "kind"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._hops = Histogram(
            "agentplatform_hop_seconds",
            "For which an agent that left this host did not run",
            buckets=SECONDS,
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "agentplatform_requests_in_flight", "Requests without an answer", registry=self._registry
        )
        Gauge("agentplatform_agents", "Agents on this host", registry=self._registry).set_function(agents)

    def asked(self, service: str, kind: str, label: Label, seconds: float) -> None:
        """`service` is "" for an agent that offers none."""
        pair = (service or "agent", kind[:MAX_LABEL])
        if pair not in self._pairs:
            if label == "answered" and len(self._pairs) < MAX_PAIRS:
                self._pairs.add(pair)
            else:
                pair = OTHER
        self._requests.labels(*pair, label).inc()
        self._seconds.labels(*pair).observe(seconds)

    def hopped(self, seconds: float) -> None:
        self._hops.observe(seconds)

    def told(self) -> bytes:
        return prometheus_client.generate_latest(self._registry)
