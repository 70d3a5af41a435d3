"""Keep a finished run as a small record: `python -m benchmarks.record FOLDER [NAME [pictures]]`.

A run whose records are compressed is kept whole, without nets: records.json.xz, its arrays and scores, report.json.xz, grid.csv.xz,
run.json.xz; with `pictures` also those that its page shows, maps in 8 bits (for data that may be passed on). Of any other run it writes
results/NAME/numbers.json.xz (every printed number: value, ends of its interval, n, runs) and run.json (command, versions, seconds by
step), with `pictures` those that README.md shows. Either way its seconds become those that `salientry plan` expects of this data set
before anything was run here (salientry/recipes/seconds.json), but for recipes whose plan times the net itself.
"""

from __future__ import annotations

import json
import lzma
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from salientry.files import own_sha256
from salientry.report.gallery import DRAWN, EXAMPLES
from salientry.store import read_arrays, read_bytes, read_json, write_arrays, write_bytes, write_json

ROOT = Path(__file__).parents[1]
SECONDS = ROOT / "salientry" / "recipes" / "seconds.json"
LARGEST = 15 * 2**20
TIMES_ITSELF = ("paper", "sweep")  # its plan times the net on the machine; its attacks are those of `fast` on larger nets
PICTURES = 200_000  # bytes of a run's pictures
LONG = 0.5
OUT = re.compile(r"(--out[ =])/\S*?([^/\s]+)/?(?=\s|$)")
SIDE = 64  # pixels of a picture that is kept
SMALL = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 2, "lp": 2, "pb": 2}]  # numbers of four bytes


def shortened(run: dict[str, Any]) -> dict[str, Any]:
    """Of run.json: everything but the list of results; seconds and number of results by step."""
    steps: dict[str, list[float]] = defaultdict(list)
    for s in run["steps"]:
        steps[s["step"]].append(s["seconds"])
    kept: dict[str, Any] = anywhere({k: v for k, v in run.items() if k not in ("steps", "manifest")})
    return kept | {
        "results": len(run["steps"]),
        "steps": {k: {"results": len(v), "seconds": round(sum(v), 1)} for k, v in steps.items()},
    }


def expected(run: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Mean seconds by step and slug, whatever the seed; what is done in less than half a second has no name of its own."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for s in run["steps"]:
        slug = re.sub(r"-seed\d+$", "", s["slug"])
        found[s["step"]][slug if s["seconds"] >= LONG else ""].append(s["seconds"])
    return {step: {slug: round(sum(v) / len(v), 2) for slug, v in sorted(slugs.items())} for step, slugs in sorted(found.items())}


def noted(run: dict[str, Any], file: Path = SECONDS) -> None:
    """Put a run's seconds beside those of other runs on its data set. Of two of the same step the smaller: a busy machine takes longer,
    and nothing makes a step shorter than it is. Who makes a step slower removes its line by hand.
    """
    known = json.loads(file.read_text()) if file.exists() else {}
    dataset = next(s["slug"] for s in run["steps"] if s["step"] == "read_data").split("-")[0].lower()
    mine = known.setdefault(dataset, {})
    for step, slugs in expected(run).items():
        older = mine.get(step, {})
        mine[step] = dict(sorted((older | {slug: min(s, older.get(slug, s)) for slug, s in slugs.items()}).items()))
    file.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def kept_whole(folder: Path, out: Path, pictures: bool = False) -> None:
    """Copy what a report is made and checked from, packed, equal columns of scores once; no weight, and images where they are asked for."""
    if out.exists():
        shutil.rmtree(out)
    (out / "scores").mkdir(parents=True)
    body = read_json(folder / "records.json")
    shards = without_copies(body)
    write_json(out / "records.json.xz", body | {"own": own_sha256(body)})
    write_json(out / "report.json.xz", anywhere(read_json(folder / "report.json")))
    write_bytes(out / "grid.csv.xz", read_bytes(folder / "grid.csv"))
    repacked(folder / "records.safetensors.xz", out / "records.safetensors.xz")
    for shard, columns in shards.items():
        repacked(folder / shard, out / shard, columns)
    write_json(out / "run.json.xz", anywhere(read_json(folder / "run.json")) | {"out": f"results/{out.relative_to(ROOT / 'results')}"})
    if pictures:
        keep_pictures(folder, out)
    large = [p.name for p in out.rglob("*") if p.is_file() and p.stat().st_size > LARGEST]
    assert not large, f"over {LARGEST} bytes: {large}"


def anywhere(found: Any) -> Any:
    """The same where each ``command`` is without the folders of the machine it ran on: ``--out`` names the last part of its path alone."""
    if isinstance(found, list):
        return [anywhere(v) for v in found]
    if isinstance(found, dict):
        return {k: OUT.sub(r"\1\2", v) if k == "command" and isinstance(v, str) else anywhere(v) for k, v in found.items()}
    return found


def keep_pictures(folder: Path, out: Path) -> None:
    """The examples that a page shows; what lies in [0, 1] becomes uint8, as the page draws it. Of pictures larger than SIDE fewer, and
    means over blocks of pixels, which their caption says.
    """
    found = read_arrays(folder / "gallery.safetensors")
    times = max(-(-v.shape[-1] // SIDE) for v in found.values() if v.ndim == 4)
    most, gradients = max(EXAMPLES.values()) if times == 1 else 1, set(DRAWN) - {"map"}
    arrays = {k: v[: EXAMPLES["gradients"] if k.partition(".")[2] in gradients else most] for k, v in found.items()}
    small = {k: _as_bytes(_means(v, times)) if v.ndim == 4 else v for k, v in arrays.items()}
    write_arrays(out / "gallery.safetensors.xz", {k: [v] for k, v in small.items()})
    facts = read_json(folder / "gallery.json")
    write_json(out / "gallery.json", facts | ({"shown": f"means over {times} x {times} pixels"} if times > 1 else {}))
    size = (out / "gallery.safetensors.xz").stat().st_size
    assert size <= PICTURES, f"pictures of {size} bytes: at most {PICTURES} are kept of a data set"


def _means(x: Any, times: int) -> Any:
    """(N, C, H, W) of means over blocks of so many pixels a side; H and W are multiples of it."""
    if times == 1:
        return x
    n, c, h, w = x.shape
    found = x.reshape(n, c, h // times, times, w // times, times).mean((3, 5))
    return (found.round() if x.dtype == np.uint8 else found).astype(x.dtype)


def _as_bytes(v: Any) -> Any:
    return np.clip(v * 255, 0, 255).round().astype(np.uint8) if v.dtype.kind == "f" else v


def without_copies(body: dict[str, Any], shards: Collection[str] | None = None) -> dict[str, list[str]]:
    """Let scores that equal earlier ones to the last bit name the earlier column, in ``body`` of a records.json.

    Args:
        body: is changed.
        shards: columns in these files only; None: in all.

    Returns:
        The columns that each file of scores must hold.
    """
    first: dict[str, tuple[str, str]] = {}
    for s in body["scores"]:
        own = s["column"], s["shard"]
        known = first.setdefault(body["sha256"][s["column"]], own)
        if known != own and (shards is None or s["shard"] in shards):
            s["column"], s["shard"] = known
    held: dict[str, list[str]] = {shard: [] for shard in body["shards"]}
    for column, shard in dict.fromkeys((s["column"], s["shard"]) for s in body["scores"]):
        held[shard].append(column)
    held = {shard: columns for shard, columns in held.items() if columns}
    mine = {c for columns in held.values() for c in columns}
    body["sha256"] = {k: v for k, v in body["sha256"].items() if k in mine or not k.startswith("score/")}
    body["shards"] = list(held)
    return held


def repacked(source: Path, target: Path, columns: Collection[str] | None = None) -> None:
    """The arrays of a packed file, or some of them, as small as xz makes them."""
    arrays = read_arrays(source)
    write_arrays(target, {k: [arrays[k]] for k in (arrays if columns is None else columns)})
    target.write_bytes(lzma.compress(lzma.decompress(target.read_bytes()), filters=SMALL))


def main(folder: Path, name: str, pictures: bool = False) -> None:
    """Write the record."""
    run, report = (json.loads((folder / f).read_text()) for f in ("run.json", "report.json"))
    out = ROOT / "results" / name
    if run["recipe"] not in TIMES_ITSELF:
        noted(run)
    if (folder / "records.safetensors.xz").exists():
        kept_whole(folder, out, pictures)
        return
    out.mkdir(parents=True, exist_ok=True)
    parts = ("value", "lo", "hi", "n", "runs")
    lines = [f"  {json.dumps(n['id'])}: {json.dumps([_short(n[p]) for p in parts])}" for n in report["numbers"]]
    write_bytes(out / "numbers.json.xz", ("{\n" + ",\n".join(lines) + "\n}\n").encode())
    (out / "run.json").write_text(json.dumps(shortened(run), indent=1) + "\n")
    if pictures:
        keep_pictures(folder, out)


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(v) for v in value]
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "smoke", sys.argv[3:] == ["pictures"])
