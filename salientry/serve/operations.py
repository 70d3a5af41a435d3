"""Routes for those who run the service: ``/health``, ``/ready``, ``/metrics``."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from .gate import notes_of
from .protocol import FAULTS
from .server import Server


def routes(server: Server) -> APIRouter:
    """Routes of operation."""
    router = APIRouter(tags=["Operation"])

    @router.get("/health")
    async def health(request: Request) -> dict[str, Any]:
        """Whether the service is well; ``degraded``: it answers, and something should be looked at. What it is, only with a key, if there
        are keys.
        """
        alarms = server.watch.alarms
        found: dict[str, Any] = {"status": "degraded" if alarms else "ok"}
        if not notes_of(request.scope).trusted:
            return found
        monitor, campaign, g = server.watch.monitor, server.watch.campaign, server.guard
        found |= {"alarms": alarms, "model": server.name, "mode": server.mode, "draining": server.draining}
        found["guard"] = {"id": server.identity, "level": g.level, "threshold": g.threshold, "seconds": round(time.time() - server.since)}
        found["queue"] = {"images": server.worker.waiting, "most": server.batching.queue}
        found["flag_rate"] = None if monitor is None else monitor.summary()
        found["campaigns"] = None if campaign is None else {"alarms": campaign.alarms, "reported": campaign.reported}
        return found | {"seconds": round(time.time() - server.started)}

    @router.get("/ready", responses={503: FAULTS[503]})
    async def ready() -> Response:
        """Whether it takes requests; 503: it is shutting down."""
        return JSONResponse({"ready": not server.draining}, 503 if server.draining else 200)

    @router.get("/metrics", response_class=Response, responses={401: FAULTS[401]})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        content, kind = server.metrics.text()
        return Response(content, headers={"Content-Type": kind})

    return router
