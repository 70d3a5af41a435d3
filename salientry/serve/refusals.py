"""What is answered in place of a verdict: a status, a code for programs and one line for people; never where or why in our code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RETRY = {"Retry-After": "1"}
CLOSE = {"Connection": "close"}  # the rest of a body that is not wanted is not read


class Refused(Exception):
    """A request that gets no verdict.

    Args:
        status: of HTTP.
        code: for programs and for the log: ``overloaded``, ``body_too_large`` ...
        text: for people.
        headers: of the answer.
        more: further fields of the answer.
    """

    def __init__(self, status: int, code: str, text: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(text)
        self.status, self.code, self.text, self.headers, self.more = status, code, text, dict(headers or {}), more

    @property
    def body(self) -> dict[str, Any]:
        """As the Open Inference Protocol has errors, with a code."""
        return {"error": self.text, "code": self.code} | self.more


def bad(text: str, code: str = "bad_request") -> Refused:
    """A request that nobody can answer: 400."""
    return Refused(400, code, text)


def overloaded(text: str, code: str = "overloaded") -> Refused:
    """A request that may come again: 503."""
    return Refused(503, code, text, RETRY)
