"""How soon the alarm over a video rings: `python -m benchmarks.video`.

The guard and the data of `python -m benchmarks.drift`. Clips are made of pictures of the role *test* at the classifier's size: 20 seconds
of 10 frames, in scenes of 2 seconds; in each scene the camera pans and zooms slowly over one picture, shakes a little, and adds noise. In
half of them every frame of 8 seconds is attacked, each by itself (PGD 8/255). Two more sets have no attack: clips of one scene of 20
seconds, which break the assumption of the alarm, and the same with blocks as long as the clip. Clips are folders of PNGs, without loss. The
settings of the alarm are the defaults, chosen before.

Writes results/video.json; `python -m benchmarks.readme --write` prints it in docs/video.md.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from salientry import Guard, Run
from salientry.attacks import PGD
from salientry.inputs import as_uint8
from salientry.protocol import eight_bits
from salientry.rates import share_of
from salientry.video import Watched, timeline, watch
from salientry.video.frames import needs_av

from .drift import about, fitted, images_of

OUT = Path(__file__).parents[1] / "results" / "video.json"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "timeline.png"
CLIPS, RATE, SECONDS, SCENE = 50, 10, 20, 2
FROM, TO = 6, 14  # seconds that are attacked
ATTACK = PGD(8 / 255, steps=10)
ALPHA, BLOCK = 0.01, 1.0
TIMED = (320, 240, 25, 100)  # width, height, frames a second, frames of the clip that is timed


def scene(picture: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """(count, C, H, W): a camera that pans and zooms over a picture (C, H, W), from one view to another."""
    size = picture.shape[1]
    views = [np.array([rng.uniform(0.8, 1.0), *rng.uniform(-0.1, 0.1, 2)]) for _ in range(2)]  # half the width seen, and the middle
    out = []
    for t in np.linspace(0, 1, count):
        zoom, right, down = (1 - t) * views[0] + t * views[1] + [0, *rng.normal(0, 0.3 / size, 2)]
        at = torch.tensor([[[zoom, 0, right], [0, zoom, down]]], dtype=torch.float32)
        grid = F.affine_grid(at, [1, *picture.shape], align_corners=False)
        out.append(F.grid_sample(picture[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0])
    frames = torch.stack(out)
    return eight_bits((frames + 1 / 255 * torch.from_numpy(rng.standard_normal(frames.shape)).to(frames)).clamp(0, 1))


def clip(x: Tensor, seconds: int, rng: np.random.Generator) -> Tensor:
    """Scenes of so many seconds, one after the other."""
    pictures = x[rng.choice(len(x), SECONDS // seconds, replace=False)]
    return torch.cat([scene(p, seconds * RATE, rng) for p in pictures])


def watched(guard: Guard, frames: Tensor, block: float) -> Watched:
    """A clip, as a folder of pictures."""
    with tempfile.TemporaryDirectory() as folder:
        for i, pixels in enumerate(as_uint8(frames).numpy()):
            Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(Path(folder) / f"{i:04d}.png")
        return watch(guard, folder, rate=RATE, block=block, alpha=ALPHA)


def seconds(values: list[float]) -> dict[str, Any]:
    """Median, least and most of those that are finite; None where the median is not."""
    x = np.sort(values)
    known = x[np.isfinite(x)]
    middle = float(np.median(x)) if len(x) else math.inf
    ends = (float(known[0]), float(known[-1])) if len(known) else (None, None)
    return {"median": middle if math.isfinite(middle) else None, "least": ends[0], "most": ends[1], "of": len(x)}


def natural(guard: Guard, x: Tensor, scene_seconds: int, block: float, rng: np.random.Generator) -> dict[str, Any]:
    """Clips without an attack: how many ring, beside simpler rules."""
    found = [watched(guard, clip(x, scene_seconds, rng), block) for _ in range(CLIPS)]
    flags = [np.array([s.flagged for s in w.seen]) for w in found]
    runs = [any(f[i : i + 5].all() for i in range(len(f) - 4)) for f in flags]
    return {
        "alarms": share_of(np.array([w.alarm for w in found])),
        "one flagged frame would ring": share_of(np.array([f.any() for f in flags])),
        "five flagged frames in a row would ring": share_of(np.array(runs)),
        "frames flagged": share_of(np.concatenate(flags)),
    }


def with_attack(guard: Guard, x: Tensor, k: int, rng: np.random.Generator) -> tuple[Tensor, list[int]]:
    """The frames of clip number k, and the answers that were attacked."""
    frames, part = clip(x, SCENE, rng), slice(FROM * RATE, TO * RATE)
    labels = guard(frames[part]).predicted
    seeds = torch.arange(TO * RATE - FROM * RATE) + 1_000 * k
    frames[part] = eight_bits(ATTACK(guard.classifier, frames[part], labels, seeds=seeds))
    return frames, labels.tolist()


def attacked(guard: Guard, x: Tensor, rng: np.random.Generator) -> dict[str, Any]:
    """Clips with an attack: how many ring during it or after, and how soon."""
    early, delays, fooled, flagged = list[bool](), list[float](), list[bool](), list[bool]()
    for k in range(CLIPS):
        frames, labels = with_attack(guard, x, k, rng)
        found, part = watched(guard, frames, BLOCK), slice(FROM * RATE, TO * RATE)
        early.append(found.alarm_at is not None and found.alarm_at < FROM)
        if not early[-1]:
            delays.append(math.inf if found.alarm_at is None else found.alarm_at - FROM + 1 / RATE)
        fooled += [s.predicted != y for s, y in zip(found.seen[part], labels, strict=True)]
        flagged += [s.flagged for s in found.seen[part]]
    return {
        "too early": share_of(np.array(early)),
        "alarms": share_of(np.isfinite(delays)),
        "delay in seconds": seconds(delays),
        "attacked frames that fool the classifier": share_of(np.array(fooled)),
        "of these flagged": share_of(np.array(flagged)[np.array(fooled)]),
    }


def timed(guard: Guard, x: Tensor, rng: np.random.Generator) -> dict[str, Any]:
    """Frames a second of an H.264 clip, read, resized and judged; best of three, for others use the processor too."""
    av, (width, height, rate, count) = needs_av(), TIMED
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w") as file:
            stream = file.add_stream("libx264", rate=rate)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for f in (scene(x[0], count, rng) * 255).to(torch.uint8).numpy():
                picture = Image.fromarray(np.ascontiguousarray(f.transpose(1, 2, 0))).resize((width, height))
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
            file.mux(stream.encode())
        best = max((watch(guard, path) for _ in range(3)), key=lambda w: w.speed)
    size = f"{width} x {height}"
    return {"clip": size, "shown a second": rate, "judged a second": round(best.speed, 1), "dropped if live": round(best.dropped, 3)}


def main() -> None:
    """Make the clips, watch them, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--picture", action="store_true", help="nothing but the timeline of one attacked clip, for docs/video.md")
    asked, run, rng = parser.parse_args(), Run(), np.random.default_rng(0)
    guard, data = fitted(run)
    x, _ = images_of(run, data, "test")
    if asked.picture:
        timeline(watched(guard, with_attack(guard, x, 0, rng)[0], BLOCK)).save(PICTURE)
        return
    body = about("video", guard) | {
        "rate": RATE,
        "seconds": SECONDS,
        "scene": SCENE,
        "attacked": [FROM, TO],
        "alpha": ALPHA,
        "block": BLOCK,
    }
    body["threads"] = torch.get_num_threads()
    body["speed"] = timed(guard, x, rng)
    print(body["speed"], flush=True)
    body["natural"] = natural(guard, x, SCENE, BLOCK, rng)
    print(body["natural"], flush=True)
    body["one scene"] = natural(guard, x, SECONDS, BLOCK, rng)
    body["one scene, one block"] = natural(guard, x, SECONDS, SECONDS, rng)
    print(body["one scene"], flush=True)
    body["with attack"] = attacked(guard, x, rng)
    asked.out.write_text(json.dumps(body, indent=1) + "\n")
    print(json.dumps(body, indent=1))


if __name__ == "__main__":
    main()
