"""The measured parts of docs/drift.md and docs/video.md, from what `benchmarks.drift`, `.campaign` and `.video` wrote."""

from __future__ import annotations

from typing import Any

from salientry.rates import measured, percent, rate_in_percent, table
from salientry.store import read_json

from . import campaign, drift, senders, video

JSON = dict[str, Any]


def share(found: JSON | None) -> str:
    """A share with its interval and n."""
    return "none asks so often" if found is None else rate_in_percent(found)


def source(body: JSON) -> str:
    """Where the numbers come from."""
    g = body["guard"]
    return (
        f'CIFAR-10, the classifier of the recipe `fast`, a guard fitted with `effort="quick"` on {g["fitted on"]:,} images '
        f"({g['calibrated on']:,} of them calibrate) at the level {percent(g['level'])}. `{body['command']}`, {body['date']}, salientry "
        f"{body['salientry']}, torch {body['torch']}, {body['processor']}. In brackets: 95 % intervals."
    )


def drifts() -> str:
    """Docs/drift.md: how soon the alarm for drift comes."""
    body = read_json(drift.OUT)
    streams, length = body["streams"], f"{body['length']:,}"
    lines = [
        f"{source(body)} {streams} streams each, drawn with replacement from the flags of {body['tested on']:,} test images, so that all "
        f"streams resample the same images; alpha {body['alpha']:g}. Delay: images until the alarm, the median over the streams without "
        f"an alarm before; *late*: not within {length} images. Severity 3: like CIFAR-10-C.",
        "",
    ]
    heads = [
        "images",
        "flagged",
        "accuracy of the classifier",
        "delay from the first image on",
        f"delay after {body['before']:,} natural ones",
    ]
    for level, found in body["levels"].items():
        false = found["false alarms"]
        lines += [
            f"**Level {percent(level)}.** False alarms: {false['natural']['count']} of {streams} streams of {length} natural "
            f"images raise one, and {false['coins at the level']['count']} of {streams} simulated ones in which each image is flagged with "
            "exactly the level's probability.",
            "",
            *table(heads, [_stream(name, found, body) for name in ("natural", *found["delays"])]),
        ]
    made = body["attacked"]
    return "\n".join([*lines, f"Attacked: {made['fool']:,} of {made['images']:,} images on which PGD fools the classifier."])


def _stream(name: str, found: JSON, body: JSON) -> list[str]:
    known, late = found["rates"].get(name), found["delays"].get(name)
    if known is None and "attacked" in name:
        flagged = f"of the attacked {share(found['rates']['attacked alone'])}"
    else:
        flagged = share(known) if known else ""
    right = measured(body["accuracy"][name]["share"], 1) if name in body["accuracy"] else ""
    words = name.replace("coins at twice the level", "simulated, at twice the level")
    return [words, flagged, right, *((_delay(late[k]) for k in ("from the start", "after naturals")) if late else ("", ""))]


def _delay(d: JSON) -> str:
    early = f"; {d['too early']} had an alarm before" if d["too early"] else ""
    if not d["rang"]:
        return f"no alarm in {d['of']}{early}"
    few = f"; an alarm in {d['rang']} of {d['of']}" if d["rang"] < d["of"] else ""
    return _ranks(d, "late") + few + early


def _ranks(d: JSON, never: str) -> str:
    """A median with its interval."""
    if d["median"] is None:
        return never
    low, high = (never if d[k] is None else f"{d[k]:,}" for k in ("low", "high"))
    return f"{d['median']:,} [{low}, {high}]"


def campaigns() -> str:
    """Docs/drift.md: attacks that are noticed, and ordinary senders that are not."""
    body = read_json(campaign.OUT)
    within, settings = body["within"], ", ".join(f"`{k}={v:g}`" for k, v in body["settings"].items())
    heads = ["attack", f"noticed within {within} queries", "of those that ask so often", "median query of the alarm", "queries flagged"]
    rows = []
    for name, a in body["attacks"].items():
        shares = [share(a["noticed"]), share(a["noticed of those that ask so often"])]
        rows.append([name, *shares, _ranks(a["queries until the alarm"], "not noticed"), share(a["queries flagged"])])
    sizes = [f"{low} to {high}" for low, high in senders.SIZES]
    sent = []
    for name in (*senders.KINDS, "all"):
        kind = body["senders"][name]
        sent.append([name.replace("all", "all of these"), *(share(kind[key]) for key in ("all", *sizes))])
    others = [[name, share(kind["all"])] for name, kind in body["senders"].items() if name not in (*senders.KINDS, "all")]
    return "\n".join(
        [
            f"{source(body)} Settings {settings}, chosen on other images. Each attacked image is a source of its own; of "
            f"{body['planned']:,} planned queries the first {body['asked']} are looked at.",
            "",
            *table(heads, rows),
            f"An attack that is not noticed succeeded, and ended, before the alarm had what it needs. "
            f"Ordinary senders of 1 to {senders.MOST} pictures of other images than the settings were chosen on, judged by the same "
            "guard; how many of them are reported, also by the number of their pictures:",
            "",
            *table(["who sends", "reported", *(f"of those with {size}" for size in sizes)], sent),
            "*Saved again*: up to five pictures, as they are or in one of nineteen formats, sizes and brightnesses. *Edited*: up to five, "
            "each time with another brightness, contrast, size and JPEG quality. *Bursts*: 2 to 60 shots of a scene that shift by a pixel "
            "and are brighter or darker, scene after scene. Others, not counted above:",
            "",
            *table(["who sends", "reported"], others),
            "A camera that looks at one scene is a stream: `exempt` is for that.",
        ]
    )


def videos() -> str:
    """Docs/video.md: false alarms and delays over clips."""
    body = read_json(video.OUT)
    hit, speed, block, (start, end) = body["with attack"], body["speed"], f"blocks of {body['block']:g} s", body["attacked"]
    kinds = {
        "natural": f"scenes of {body['scene']} s, {block}",
        "one scene": f"one scene of {body['seconds']} s, {block}",
        "one scene, one block": f"one scene of {body['seconds']} s, one block",
    }
    keys = ("alarms", "one flagged frame would ring", "five flagged frames in a row would ring", "frames flagged")
    d = hit["delay in seconds"]
    median = "none" if d["median"] is None else f"{d['median']:.1f} s (of those with an alarm {d['least']:.1f} to {d['most']:.1f})"
    named = ["clips", *(key.replace("would ring", "as the rule for an alarm") for key in keys)]
    heads = [
        "clips with an alarm",
        "alarm before the attack",
        "delay, median",
        *(fools := ("attacked frames that fool the classifier", "of these flagged")),
    ]
    fooled, flagged = (share(hit[k]) for k in fools)
    return "\n".join(
        [
            f"{source(body)} Clips of {body['seconds']} s with {body['rate']} frames a second, made from test pictures at the classifier's "
            "size by a slow pan and zoom, a little shake and noise, saved without loss. Intervals of frames are too narrow, for those of "
            "one clip depend on one another. No attack:",
            "",
            *table(named, [[words, *(share(body[k][key]) for key in keys)] for k, words in kinds.items()]),
            f"With every frame from {start} s to {end} s attacked (PGD 8/255, each frame by itself; {kinds['natural']}):",
            "",
            *table(heads, [[share(hit["alarms"]), share(hit["too early"]), median, fooled, flagged]]),
            f"Speed: of an H.264 clip of {speed['clip']} pixels with {speed['shown a second']} frames a second "
            f"{speed['judged a second']} are read, resized and judged a second, by {body['threads']} thread of a processor that others "
            f"used as well; live, {measured(speed['dropped if live'])} of the frames would be dropped.",
        ]
    )
