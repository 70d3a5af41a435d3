"""What there is to run on: each data set, whether it is here, what is missing; and how one's own images come in."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import asdict

from ..datasets import DATASETS
from ..datasets._files import Published, data_folder
from ..errors import DataError

OWN = """your own images, in Python (docs/evaluate.md: conventions; Roles says how many images take which role):
  from salientry.types import Roles
  from salientry.datasets import Arrays, Folder
  Folder("pictures", Roles(train=600, detector_train=200, validation=100, calibration=100, test=100), size=(64, 64))
            sub-folders are classes; pictures are decoded as they are asked for
  Arrays.from_file("images.npz", Roles(...), classes=10)
            images (N, C, H, W) uint8 or whole 255ths, labels (N,)
  Arrays(images, labels, Roles(...))
            arrays, also memory-mapped ones
each goes where DATASETS[NAME]() goes: Run().dataset(...)"""


def described(verify: bool) -> Iterator[str]:
    """Lines for people, as soon as they are known.

    Args:
        verify: read each data set that is here, which compares its checksums.
    """
    yield f"SALIENTRY_DATA is {data_folder() or 'not set'}"
    for name, kind in DATASETS.items():
        yield ""
        yield from _one(name, kind(), verify)
    yield ""
    yield from OWN.splitlines()


def _one(name: str, data: Published, verify: bool) -> Iterator[str]:
    files, roles = data.files(), asdict(data.roles)
    missing = [place for place, path in files.items() if path is None]
    yield f"{name}: {_first_sentence(data)}"
    yield f"  images    {sum(roles.values()):,}: {', '.join(f'{role} {n:,}' for role, n in roles.items())}"
    yield f"  from      {data.home}"
    if not missing:
        folders = dict.fromkeys(str(path.parent) for path in files.values() if path)
        kind = "folder" if all(path and path.is_dir() for path in files.values()) else "file"
        yield f"  here      {', '.join(folders)} ({len(files)} {kind}{'s' if len(files) > 1 else ''})"
        yield f"  checksums {_verdict(data) if verify else 'not looked at (--verify)'}"
        return
    some = f"; {len(files) - len(missing)} of {len(files)} are here" if len(missing) < len(files) else ""
    yield f"  missing   {', '.join(place.rpartition('/')[2] for place in missing)}{some}"
    yield f"  goes to   {', '.join(dict.fromkeys('SALIENTRY_DATA/' + place.rpartition('/')[0] for place in missing))}"


def _first_sentence(data: Published) -> str:
    text = " ".join((inspect.getdoc(type(data)) or "").split("\n\n")[0].split())
    return text.replace("``", "").removesuffix(".")


def _verdict(data: Published) -> str:
    try:
        data.read()
    except DataError as e:
        return f"WRONG: {e}"
    return "right" if data.known else "none known; every picture can be read"


__all__ = ["described"]
