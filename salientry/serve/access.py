"""API keys: who may ask."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import UsageError
from ..files import read_text

SHORTEST = 16
VARIABLE = "SALIENTRY_API_KEYS"


class Keys:
    """API keys by the names of those who have them; only their hashes are held.

    Args:
        keys: name to key. Names stand in the log and key the watch over campaigns; they are no secret.

    Raises:
        UsageError: for a key of fewer than 16 characters, with blanks or outside ASCII, or one that two names have.

    Examples:
        >>> keys = Keys({"shop": "correct-horse-battery"})
        >>> keys.owner("correct-horse-battery"), keys.owner("wrong")
        ('shop', None)
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        for name, key in keys.items():
            if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
                raise UsageError(f"the API key of {name!r} must be {SHORTEST} or more printable ASCII characters without blanks")
        self._hashes = [(name, _hash(key)) for name, key in keys.items()]
        if len({h for _, h in self._hashes}) < len(self._hashes):
            raise UsageError("two names have the same API key; a key for each name expected")

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def names(self) -> list[str]:
        """Whose keys there are."""
        return [name for name, _ in self._hashes]

    def owner(self, given: str) -> str | None:
        """Whose key this is; None: nobody's. It takes as long for a wrong key as for a right one."""
        found, asked = None, _hash(given)
        for name, known in self._hashes:
            if hmac.compare_digest(known, asked):
                found = name
        return found

    @classmethod
    def read(cls, path: Path | None = None) -> Keys:
        """Keys from a file, one a line, ``KEY`` or ``NAME KEY``, and from the variable SALIENTRY_API_KEYS, ``KEY`` or ``NAME:KEY`` with
        commas between; lines that begin with # are left out.

        Raises:
            UsageError: when a file is named and holds no key, a line has more than two words, or a key cannot be used.
            StoreError: when the file cannot be read.
        """
        found: dict[str, str] = {}
        lines = [] if path is None else read_text(path).splitlines()
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) > 2:
                raise UsageError(f"line {number} of {path} has {len(words)} words; KEY or NAME KEY expected")
            _put(found, words[0] if len(words) == 2 else f"key{len(found) + 1}", words[-1])
        if path is not None and not found:
            raise UsageError(f"{path} holds no API key; one a line expected, KEY or NAME KEY")
        for word in filter(None, os.environ.get(VARIABLE, "").split(",")):
            name, _, key = word.strip().rpartition(":")
            _put(found, name or f"key{len(found) + 1}", key)
        return cls(found)


def _put(found: dict[str, str], name: str, key: str) -> None:
    if name in found:
        raise UsageError(f"two API keys have the name {name!r}; a name for each expected")
    found[name] = key


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def address(given: str) -> str:
    """An address as the service names a sender: an IPv4 address that came through an IPv6 socket (``::ffff:10.0.0.1``) as ``10.0.0.1``.

    Raises:
        ValueError: for what is no address.
    """
    found = ipaddress.ip_address(given)
    return str(getattr(found, "ipv4_mapped", None) or found)
