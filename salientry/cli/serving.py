"""What ``salientry serve`` does: a guard and its classifier from their files into a service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..guard import Guard
from ..serve import Batching, Keys, Limits, app
from ..serve.process import serve
from .checking import loaded


def execute(
    folder: Path,
    nets: dict[str, Any],
    detector: str | None,
    key_file: Path | None,
    host: str,
    port: int,
    device: str,
    *,
    name: str,
    mode: str,
    limits: dict[str, int],
    batching: dict[str, Any],
    kept: dict[str, Any],
    drain: float,
    say: Callable[[str], Any],
) -> None:
    """Serve until a signal ends it.

    Args:
        folder: of the guard.
        nets: ``classifier``, ``weights``, ``second`` and ``second_weights``, as ``check`` takes them.
        detector: ``module:name`` of a detector that is not ours.
        key_file: of API keys; None: those of the environment, if any.
        host: address to listen at.
        port: to listen at.
        device: where to compute.
        name: of the model.
        mode: ``monitor``, ``mark`` or ``enforce``.
        limits: settings of :class:`~salientry.serve.Limits`.
        batching: settings of :class:`~salientry.serve.Batching`.
        kept: where flagged images are kept, and how many.
        drain: seconds from the signal to the end.
        say: hears where it listens.

    Raises:
        UsageError: for settings or networks that cannot be used.
        DataError: for files that cannot be used.
        DeviceError: when the device is not here, or the address cannot be had.
    """
    beside = {"second": nets["second"], "second_weights": nets["second_weights"], "detector": detector}

    def read() -> tuple[Guard, Keys]:
        return loaded(folder, nets["classifier"], nets["weights"], device, **beside), Keys.read(key_file)

    guard, keys = read()
    application = app(guard, name=name, mode=mode, keys=keys, limits=Limits(**limits), batching=Batching(**batching), **kept)
    serve(application, host, port, reread=read, drain=drain, say=say)
