"""Keys of an earlier time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from unittest import mock

from salientry import keys
from salientry.runner import step as steps_module


@contextlib.contextmanager
def as_of(revisions: Mapping[str, int]) -> Iterator[None]:
    """Keys that are made inside are those of the time when settings classes had these revisions, and those not named had revision 1.

    Records say which they were made with (``revisions`` in records.json; nothing: 1 everywhere).
    """

    def then(kind: type) -> int:
        return revisions.get(keys.class_name(kind), 1)

    with mock.patch.object(keys, "revision_of", then), mock.patch.object(steps_module, "revision_of", then):
        yield
