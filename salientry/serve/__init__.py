"""A guard behind HTTP: an ASGI application that stands alone (``salientry serve``) or is mounted into another.

It needs the extra `serve`: ``pip install 'salientry[serve]'``.
"""

from __future__ import annotations

try:
    import fastapi as _fastapi  # noqa: F401
    import prometheus_client as _prometheus_client  # noqa: F401
    import python_multipart as _python_multipart  # noqa: F401
except ModuleNotFoundError as e:
    raise ModuleNotFoundError(f"the service needs {e.name}, which is not installed: pip install 'salientry[serve]'", name=e.name) from None

from .access import Keys
from .application import app
from .settings import Batching, Limits

__all__ = ["Batching", "Keys", "Limits", "app"]
