"""What Prometheus reads: one registry a service, so that several may stand in one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters, gauges and histograms of one service; their names begin with ``salientry_``."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        ProcessCollector(registry=r)
        self.requests = Counter("salientry_requests", "Answers by route and status.", ["route", "status"], registry=r)
        self.refused = Counter("salientry_refused", "Requests without a verdict, by reason code.", ["code"], registry=r)
        self.images = Counter("salientry_images", "Images that were judged, by verdict.", ["verdict"], registry=r)
        self.seconds = Histogram("salientry_request_seconds", "From request to answer.", ["route"], buckets=SECONDS, registry=r)
        self.waited = Histogram("salientry_waiting_seconds", "That images waited for their pass.", buckets=SECONDS, registry=r)
        self.batches = Histogram("salientry_batch_images", "Images that were judged in one pass.", buckets=IMAGES, registry=r)
        self.queue = Gauge("salientry_queue_images", "Images that wait.", registry=r)
        self.under_way = Gauge("salientry_requests_under_way", "Requests that are under way.", registry=r)
        self.level = Gauge("salientry_guard_level", "False-positive rate that the threshold was calibrated for.", registry=r)
        self.threshold = Gauge("salientry_guard_threshold", "A score above it is flagged.", registry=r)
        self.replaced = Counter("salientry_guard_replacements", "Guards that were to replace the one at work.", ["outcome"], registry=r)
        self.flag_rate_alarm = Gauge("salientry_flag_rate_alarm", "1: the flag rate is not what was calibrated.", registry=r)
        self.campaign_alarms = Gauge("salientry_campaign_alarms", "How often a source came to be reported.", registry=r)
        self.campaign_sources = Gauge("salientry_campaign_sources", "Sources that look for a way past the guard, now.", registry=r)
        self.unnoted = Counter("salientry_notes_dropped", "Answers that were not watched or kept, as there were too many.", registry=r)

    def text(self) -> tuple[bytes, str]:
        """All of it as Prometheus reads it, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4
