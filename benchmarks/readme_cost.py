"""What `python -m benchmarks.guard` found, for people: as it is printed, and as it stands in docs/guard.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from salientry.rates import short, table
from salientry.store import read_json

from .guard_exported import RUNTIME

RECORDS = Path(__file__).parents[1] / "results" / "benchmarks"
KINDS = {"light": "light: 2 small changes", "full": "full: 6 small changes, noise, layers", "cascade": "cascade"}


def costs() -> str:
    """Milliseconds, and times the bare classifier, of three guards: here, as graphs, and at 224 pixels."""
    here, exported, pictures = (read_json(RECORDS / f"guard{n}.json") for n in ("", "-exported", "-pictures"))
    lines = ["One image at a time, one thread: milliseconds, and in brackets how many times those of the classifier alone.", ""]
    found = [(here, ""), (exported, RUNTIME), (pictures, "")]
    lines += _table(found, (1, 1, 1))
    lines += ["Many at once (256; at 224 x 224 four), milliseconds for each image:", ""]
    lines += _table(found, (256, 256, 4))
    commands = ", ".join(f"`{body['command']}`" for body, _ in found)
    m = here["machine"]
    lines.append(
        f"{commands}; {min(b['date'] for b, _ in found)[:10]}, salientry {m['salientry']}, torch {m['torch']}, {m['cpu']}. Medians; their "
        "ratios with 95 % intervals over calls, classifier and guard in turn. *Cascade* on one image is one that goes on to the second "
        "stage, as one in five does; the four others cost what *light* does."
    )
    return "\n".join(lines)


def _table(found: list[tuple[dict[str, Any], str]], batches: tuple[int, ...]) -> list[str]:
    """A row of the classifier and one of each guard: of records and the ends of their rows' names, so many images at once in each."""
    heads = ["", "CIFAR-10 network, PyTorch", "the same, ONNX Runtime", "1.9 million weights at 224 x 224, PyTorch"]
    subjects = {"classifier": "the classifier alone"} | {f"guard: {name}": words for name, words in KINDS.items()}
    columns = list(zip(found, batches, strict=True))
    return table(heads, [[words, *(_cell(body, name + end, n) for (body, end), n in columns)] for name, words in subjects.items()])


def _cell(body: dict[str, Any], subject: str, batch: int) -> str:
    chosen = [r for r in body["rows"] if (r["subject"], r["batch"], r["threads"]) == (subject, batch, 1)]
    if not chosen:
        return "–"
    (r,) = chosen
    ms = short(r["p50_ms"] / batch, digits=2)
    ratio, low, high = (short(v, digits=2) for v in (r["ratio"], *r["ratio_interval"]))
    return ms if subject.startswith("classifier") else f"{ms} ({ratio} [{low}, {high}])"


def printed(found: dict[str, Any]) -> str:
    """For people."""
    m, rate, loads = found["machine"], found["matmul_gflops"], found["load_average"]
    rates = ", ".join(f"{r:.1f} and {rate['after'][t]:.1f} with {t} thread(s)" for t, r in rate["before"].items())
    lines = [f"{m['cpu']}, {m['cores']} cores, torch {m['torch']}, Python {m['python']}, {found['date']}"]
    lines += [f"float32 matrix products of side {rate['side']}, GFLOP/s before and after: {rates}"]
    lines += ["load average: " + ", ".join(f"{k} {'unknown' if v is None else f'{v:.2f}'}" for k, v in loads.items())]
    lines += [f"WARNING: {w}" for w in found["warnings"]]
    for threads, batch in dict.fromkeys((r["threads"], r["batch"]) for r in found["rows"]):
        mine = [r for r in found["rows"] if (r["threads"], r["batch"]) == (threads, batch)]
        lines += ["", f"batch {batch}, {threads} thread(s), {mine[0]['calls']} calls of each"]
        lines += [f"{'':22} {'MFLOP/image':>11} {'p50 ms':>9} {'p99 ms':>9} {'images/s':>9}  ratio to the classifier"]
        for r in mine:
            lo, hi = r["ratio_interval"]
            flops = found["operations_per_image"].get(r["subject"])
            times = f"{f'{flops / 1e6:.1f}' if flops else '':>11} {r['p50_ms']:9.2f} {r['p99_ms']:9.2f} {r['images_per_second']:9.0f}"
            lines.append(f"{r['subject']:22} {times}  {r['ratio']:.2f} [{lo:.2f}, {hi:.2f}]")
    return "\n".join(lines)
