"""The lines that ``salientry export`` and ``salientry import`` print."""

from __future__ import annotations

from pathlib import Path

from ..runner.transfer import export_results, import_results
from ..store import home


def exported(folder: Path, store: Path | None) -> list[str]:
    """Pack a store's results into a folder, and say what was packed and what was not."""
    found = export_results(store or home(), folder)
    lines = [f"{_results(found.results)} in {found.files} file{'s' * (found.files != 1)} of {folder}, {_size(found.size)}"]
    if found.left_out:
        lines.append(f"left out: {_counted(found.left_out)}, {_size(found.left_out_size)}; {folder / 'manifest.json'} lists them")
    return lines


def imported(folder: Path, store: Path | None) -> list[str]:
    """Put the results of an export into a store, and say what is new there and what the export lacks."""
    store = store or home()
    found = import_results(folder, store)
    lines = [f"{_results(found.results)} new in {store}, {found.there} there already"]
    if found.left_out:
        lines.append(f"not in the export: {_counted(found.left_out)}; a run makes them again where they are needed")
    return lines


def _results(count: int) -> str:
    return f"{count} result{'s' * (count != 1)}"


def _counted(by_step: dict[str, int]) -> str:
    return f"{_results(sum(by_step.values()))} with pixels or other wide rows ({', '.join(f'{k} {n}' for k, n in by_step.items())})"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
