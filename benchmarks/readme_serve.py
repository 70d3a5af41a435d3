"""The measured part of docs/operate.md, from what `python -m benchmarks.serve` wrote."""

from __future__ import annotations

from typing import Any

from salientry.rates import short, table
from salientry.store import read_json

from . import serve

JSON = dict[str, Any]
STATUSES = {"200": "answered", "503": "turned away with 503", "0": "that the client could not send, its connections being busy"}
BEFORE = "with a queue of 64 images, and without the watch over campaigns, which is on where nobody turns it off"  # of older records


def served() -> str:
    """Requests a second and latencies beside the bare classifier's; what overload and damaged requests do."""
    body = read_json(serve.OUT)
    side, soak, damaged = (body[k] for k in ("side_by_side", "soak", "malformed"))
    m = side["machine"]
    rows = [
        [r["subject"], _how(r["how"]), f"{r['per_second']:.0f}", _ms(r["p50_ms"]), _ms(r["p99_ms"]), f"{r['n']:,}"] for r in side["rows"]
    ]
    ratio = side["requests_per_second_to_the_classifier"]
    shares = [f"{short(v, digits=2)} with {_callers(n)}" for n, v in ratio.items()]
    p99 = side["p99_ms_at_half_the_rate"]
    goal = "is no longer" if side["goal_reached"] else "is longer"
    statuses = ", ".join(f"{soak['statuses'].get(s, 0):,} {what}" for s, what in STATUSES.items())
    sent = sum(v for s, v in soak["statuses"].items() if s != "0")
    arrived = soak.get("arrived_per_second") or sent * soak["per_second"] / soak["n"]
    ends = ", ".join(f"{n} {'closed without one' if end == 'closed' else end}" for end, n in damaged["ends"].items())
    return "\n".join(
        [
            f"Measured with `{side['command']}`, `--soak` and `--malformed`, {side['date'][:10]}: client and service on one machine "
            f"({m['cpu']}, {m['cores']} cores), salientry {m['salientry']}, torch {m['torch']}, the nets of `fast dataset=cifar10`, one "
            "image of 32 x 32 pixels a request, the guard with two changes of the image (three passes of the classifier); the service "
            f"{side.get('service', BEFORE)}. *Classifier*: "
            "the same routes before the classifier alone. *Callers*: each asks again once it was answered. *At random times*: at the rate "
            "named, whether answers came or not; latency counts from the time at which a request was due.",
            "",
            *table(["behind the routes", "asked by", "answered a second", "p50, ms", "p99, ms", "n"], rows),
            f"Answered a second, to the classifier's: {', '.join(shares)}. Asked half as often as the classifier, the guard's p99 {goal} "
            f"({_ms(p99[serve.LIGHT_GUARD])} ms against {_ms(p99[serve.BARE])}).",
            "",
            f"**Overload.** {soak['minutes']:g} minutes at three times what it gives, {soak['asked_per_second']:.0f} a second, of which "
            f"{arrived:.0f} arrived: {statuses}; "
            f"{soak['other_than_200_and_503']} of any other status. Answered a second: {soak['per_second']:.0f}, alone "
            f"{soak['capacity_per_second']:.0f} (turning away costs the same two cores). p99 of what was answered, from sending, at most "
            f"{soak.get('connections', serve.CONNECTIONS):,} at a time: {_ms(soak['p99_ms'])} ms. Memory grew by "
            f"{soak['growth_mb']:.1f} MB from the second quarter to the last, of {soak['resident_mb'][-1]:.0f}.",
            "",
            f"**Damaged requests.** {damaged['count']:,}, each damaged at random; answers: {ends}; {damaged['faults']} faults of the "
            f"service, which {'answers' if damaged['answers_afterwards'] else 'does not answer'} afterwards as before.",
        ]
    )


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _callers(count: str) -> str:
    return "one caller" if count == "1" else f"{count} callers"


def _how(how: str) -> str:
    kind, what = how.split(", ", 1)
    return _callers(what.split()[0]) if kind == "closed" else f"at random times, at {what}"
