"""The command ``serve``."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from .lines import guarded, print_line, warn
from .options import Debug, Device, OwnDetector, SavedOrGiven, Second, SecondWeights, Weights

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    guard: Annotated[Path, typer.Argument(help="Folder of a saved guard.", metavar="GUARD", show_default=False)],
    classifier: SavedOrGiven = None,
    weights: Weights = None,
    second: Second = None,
    second_weights: SecondWeights = None,
    detector: OwnDetector = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port, 0 to 65535; 0: any that is free.")] = 8000,
    name: Annotated[str, typer.Option(help="The model's name in addresses: /v2/models/NAME/infer.")] = "guard",
    mode: Annotated[
        str,
        typer.Option(
            metavar="monitor|mark|enforce",
            help="monitor: answer everything, log what is flagged; mark: also name it in the header Salientry-Flagged; enforce: answer 422 "
            "with the verdict where an image is flagged.",
        ),
    ] = "monitor",
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="API keys, one a line: KEY or NAME KEY. More come from SALIENTRY_API_KEYS. None: whoever reaches it may ask."),
    ] = None,
    keep_flagged: Annotated[Path | None, typer.Option(help="Folder for flagged images; default: no pixel is kept.", metavar="DIR")] = None,
    keep_at_most: Annotated[int, typer.Option(help="Images in it; the oldest goes for a new one.")] = 1000,
    batch: Annotated[int, typer.Option(help="Images of one pass, at most.")] = 32,
    wait: Annotated[float, typer.Option(help="Milliseconds that an image waits for others to be judged with.")] = 2.0,
    queue: Annotated[int, typer.Option(help="Images that wait, at most; beyond that: 503.")] = 256,
    deadline: Annotated[float, typer.Option(help="Seconds that a request waits, at most; then: 503.")] = 2.0,
    max_body: Annotated[int, typer.Option(help="MiB of a request's body.")] = 16,
    max_images: Annotated[int, typer.Option(help="Images of a request.")] = 128,
    max_pixels: Annotated[int, typer.Option(help="Pixels of a picture file.")] = 2**24,
    drain: Annotated[
        float, typer.Option(help="Seconds from SIGTERM to the end, at least, in which /ready and new requests are answered 503.")
    ] = 0.0,
    exempt: Annotated[
        list[str] | None,
        typer.Option(
            help="A sender whose pictures are a video's, so alike by nature: never reported as a campaign. The name of its API key; "
            "without keys, its address. Repeatable.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    page: Annotated[
        bool, typer.Option("--page", help="Offer a page at / to try it: pictures are judged there, and nobody counts them but in enforce.")
    ] = False,
    attacks: Annotated[
        bool,
        typer.Option("--attacks", help="Offer the page, and on it attacks on a picture: callers see what gradients find."),
    ] = False,
    examples: Annotated[Path | None, typer.Option(help="Offer the page, and on it the pictures of this folder.", metavar="DIR")] = None,
    device: Device = "cpu",
    debug: Debug = False,
) -> None:
    """Serve a guard and its classifier over HTTP: the Open Inference Protocol (version 2), /check for pictures, /health, /metrics;
    with --page a page to try it at /.

    One line of JSON a request goes to stderr. SIGTERM: requests under way are answered, then it ends. SIGHUP: GUARD, its classifier and the
    keys are read again, without a dropped request; when they cannot be used, the old ones stay. It needs the extra `serve`:
    pip install 'salientry[serve]'.
    """
    with guarded(debug):
        try:
            from .serving import execute
        except ModuleNotFoundError as e:
            if e.name not in ("fastapi", "uvicorn", "prometheus_client", "python_multipart", "pydantic"):
                raise
            raise UsageError(f"the service needs {e.name}, which is not installed: pip install 'salientry[serve]'") from None
        nets: dict[str, Any] = {"classifier": classifier, "weights": weights, "second": second, "second_weights": second_weights}
        limits = {"body": max_body * 2**20, "bodies": max(max_body, 128) * 2**20, "images": max_images, "pixels": max_pixels}
        batching = {"size": batch, "wait": wait / 1000, "queue": queue, "deadline": deadline}
        kept = {"keep_flagged": keep_flagged, "keep_at_most": keep_at_most}
        if host not in LOOPBACK and api_key_file is None:
            warn(f"no --api-key-file: whoever reaches {host}, port {port} may ask, unless SALIENTRY_API_KEYS holds keys")
        how: dict[str, Any] = {"name": name, "mode": mode, "limits": limits, "batching": batching, "kept": kept, "drain": drain}
        how |= {"exempt": exempt or [], "page": page, "attacks": attacks, "examples": examples}
        with logged():
            execute(guard, nets, detector, api_key_file, host, port, device, say=print_line, **how)


@contextlib.contextmanager
def logged() -> Iterator[None]:
    """The service's lines go to stderr as they are."""
    logger, handler = logging.getLogger("salientry.serve"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
