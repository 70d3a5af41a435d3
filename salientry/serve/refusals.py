"""What is answered in place of a verdict: a status, a code for programs and one line for people; never where or why in our code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CODES = {
    "bad_request": "the request is not what the protocol says; the error names what was found and what was expected",
    "bad_picture": "of one picture of `/check`: it cannot be read, or does not fit",
    "no_key": "an API key is needed",
    "wrong_key": "nobody has this API key",
    "not_found": "there is nothing at this address",
    "unknown_model": "there is no such model, or no such version of it",
    "method": "this address is not asked so",
    "refused": "another refusal of the framework",
    "content_type": "`/check` reads no such `Content-Type`",
    "content_encoding": "a packed body",
    "body_too_large": "the body has more bytes than are read",
    "body_too_slow": "the body did not arrive in time",
    "too_many_images": "more images than a request may have",
    "overloaded": "the queue, the requests under way or the memory for bodies are at their limit",
    "too_late": "the images waited longer than the deadline; they were not judged",
    "shutting_down": "the service ends",
    "flagged": "in the mode `enforce`: an image is flagged",
    "client_gone": "in the log alone: who asked went away before the body was complete",
    "no_change": "of the page: there is no such harmless change",
    "no_attack": "of the page: there is no such attack",
    "no_budget": "of the page: an attack has no such size",
    "internal": "a fault of the service: the log has it under the request's id",
}
RETRY = {"Retry-After": "1"}
CLOSE = {"Connection": "close"}  # the rest of a body that is not wanted is not read


class Refused(Exception):
    """A request that gets no verdict.

    Args:
        status: of HTTP.
        code: for programs and for the log, one of ``CODES``.
        text: for people.
        headers: of the answer.
        more: further fields of the answer.
    """

    def __init__(self, status: int, code: str, text: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(text)
        assert code in CODES, code
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
