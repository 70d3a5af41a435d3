"""`salientry report`: a page, or one of the other things that can be made of recorded scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from ..report import claims_document as document
from ..report import collection, columns
from ..report.report import absent, headline, listed, write
from ..report.verification import verify
from ..results.against import compared
from ..store import packed
from .lines import print_line


def reported(
    folders: list[Path], asked: Sequence[str], cells: str | None, claims: Path | None, against: Path | None, timing: Path | None
) -> int:
    """Do what one call asks for and print it.

    Args:
        folders: as typed.
        asked: the options that print something in place of writing a page.
        cells: the figure of ``--cells``.
        claims: the file of ``--claims``.
        against: the folder of ``--against``.
        timing: the file of ``--timing``.

    Returns:
        The exit code.

    Raises:
        UsageError: when options or folders do not go together, or there are no records.
        Error: of records that cannot be read, numbers that do not follow from them, files that cannot be written.
    """
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} do not go together: each prints something of its own; give one of them")
    if claims is not None and not asked:
        print_line(f"wrote {document.write(folders, claims, timing)}")
        return 0
    other = asked[0] if asked else ""
    folder, beside = document.single(folders, claims, timing, "" if other == "--json" and claims is None else other)
    if against is not None:
        for line in compared((folder, against)):
            print_line(line)
        return 0
    if cells is not None:
        lines, complete = listed(folder, cells)
        for line in lines:
            print_line(line)
        return 0 if complete else 1
    several = [] if packed(folder / "records.json").exists() else columns.runs(folder)
    if several and beside is not None:
        raise UsageError(f"{folder} holds several runs, each with its own white box: give it alone, not with {beside}")
    if other == "--verify":
        left: list[str] = []
        total = collection.verify(folder, left.append) if several else verify(folder, left.append)
        for line in left:
            print_line(line)
        print_line(f"{total} numbers {'agree with' if left else 'follow from'} the records in {folder}")
    elif other == "--json":
        found = [headline(p) for p in several] if several else headline(folder, beside)
        for line in json.dumps(found, indent=1, allow_nan=False).splitlines():
            print_line(line)
    else:
        print_line(f"wrote {collection.write(folder) if several else write(folder, beside=beside)}")
        for shard in [f"{p}/{s}" for p in several for s in absent(p)] or ([] if several else absent(folder)):
            print_line(f"warning: {shard} is missing: what is computed from it is left out (`salientry run` writes it again)", err=True)
    return 0
