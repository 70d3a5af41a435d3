"""The pictures beside the records of a run, as tables of small PNGs under the names of the paper's figures; or why there are none."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from ..results.names import attack_title
from ..results.paper_numbers import column_of
from ..results.scores import Scores
from ..store import packed, read_arrays, read_json
from .page import Block, folded

HEAT = ((0, 0, 4), (50, 18, 91), (114, 31, 129), (182, 54, 121), (241, 96, 93), (254, 176, 120), (252, 253, 191))  # dark 0, bright 1
MOVED = ((5, 80, 160), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43))  # blue −1, white 0, red 1
DRAWN = {
    "map": "learnt map",
    "Gradient": "gradient",
    "GradientInput": "gradient × input",
    "GuidedBackprop": "guided backpropagation",
    "Gradient-of=prob": "gradient of the probability",
}
EXAMPLES = {"maps": 3, "noise": 2, "gradients": 1}  # shown of each
SAYS = {
    "maps": "The first test images that every attack fools (8 bits; nothing picked by hand), below each what the classifier calls it, "
    "marked "
    "where it was fooled. Looks at: the learnt map of that class, dark 0, bright 1. Moved: map after the attack minus before, red more, "
    "blue less.",
    "noise": "What each attack added, scaled by its own largest change, which is written below.",
    "gradients": "Maps of the first example; a gradient map is the largest magnitude over the channels over one constant of all natural "
    "validation images, never over its own maximum.",
}
CALLED = {"MNIST": ("Figure 1", "Figure 5", "Figure 7"), "ASSIRA": ("Figure 6", "Like Figure 5", "Figure 8")}
LIKE = ("Like Figure 1", "Like Figure 5", "Like Figures 7 and 8")
WHAT = ("where the classifier looks, before and after the attack", "what each attack adds", "gradient maps beside the learnt map")


def png(pixels: Any) -> str:
    """Pixels uint8 (H, W) or (H, W, 3) as a data URI."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def coloured(values: Any, colours: Sequence[tuple[int, int, int]], low: float = 0.0) -> Any:
    """Values (H, W) from ``low`` to 1 as uint8 (H, W, 3), through some colours."""
    at = np.clip((np.asarray(values, float) - low) / (1 - low), 0, 1) * (len(colours) - 1)
    return np.stack([np.interp(at, range(len(colours)), [c[i] for c in colours]) for i in range(3)], -1).round().astype(np.uint8)


class Gallery:
    """The pictures of a run.

    Attributes:
        arrays: by name, ``natural.image``, ``<attack>.map`` ...; images and, where they were cut to be kept, maps are uint8.
        kinds: ``natural`` and the attacks, in order.
        count: how many examples there are.
        made: when and where, if not by the run itself, and what pictures are shown as, if not as they are; else empty.
    """

    def __init__(self, s: Scores) -> None:
        file = packed(s.folder / "gallery.safetensors")
        self.arrays: dict[str, Any] = read_arrays(file) if file.exists() else {}
        facts = read_json(s.folder / "gallery.json") if self.arrays else {}
        self.kinds, self.made = ["natural", *facts.get("attacks", [])], _said(facts)
        self.count, self.called = len(self.arrays.get("label", [])), s.class_name

    def of(self, kind: str, part: str, i: int) -> Any:
        """(C, H, W) in [0, 1]."""
        raw = self.arrays[f"{kind}.{part}"][i]
        return raw / 255 if raw.dtype == np.uint8 else raw

    def cell(self, kind: str, part: str, i: int) -> tuple[Any, str, bool]:
        """Pixels uint8, what is written below them, and whether that is a wrong answer."""
        if part == "image":
            own, here = int(self.arrays["natural.predicted"][i]), int(self.arrays[f"{kind}.predicted"][i])
            return _plain(self.of(kind, "image", i)), f"“{self.called(here)}”", here != own
        if part == "noise":
            delta = self.of(kind, "image", i) - self.of("natural", "image", i)
            largest = max(float(np.abs(delta).max()), 1e-9)
            return _plain(0.5 + 0.5 * delta / largest), "" if kind == "natural" else f"±{largest:.2f}", False
        if part == "moved":
            return coloured((self.of(kind, "map", i) - self.of("natural", "map", i))[0], MOVED, -1.0), "", False
        return coloured(self.of(kind, part, i)[0], HEAT), "", False

    def rows(self, kind: str) -> list[tuple[str, str, int]]:
        """(part, title, example) of each row of a figure."""
        parts = {"maps": [("image", "image"), ("map", "looks at"), ("moved", "moved")], "noise": [("image", "image"), ("noise", "added")]}
        known = parts.get(kind) or [("image", "image"), *((p, t) for p, t in DRAWN.items() if f"natural.{p}" in self.arrays)]
        return [(p, t, i) for i in range(min(EXAMPLES[kind], self.count)) for p, t in known]

    def table(self, kind: str) -> Markup:
        """A figure: a row for each part of each example, a column for the natural image and each attack."""
        heads = Markup("").join(Markup("<th>{}</th>").format(attack_title(k)) for k in self.kinds)
        body = Markup("")
        for part, title, i in self.rows(kind):
            cells = Markup("")
            for k in self.kinds:
                pixels, below, wrong = self.cell(k, part, i)
                words = f"{title}, {attack_title(k)}, example {i + 1}" + (f", called {below}" if part == "image" else "")
                mark = Markup("<b>{}</b>" if wrong else "{}").format(below)
                cells += Markup('<td><img src="{}" alt="{}">{}</td>').format(png(pixels), words, mark)
            body += Markup('<tr{}><th scope="row">{}</th>{}</tr>').format(Markup(' class="first"') if part == "image" else "", title, cells)
        return Markup(
            '<div class="scroll"><table class="pictures"><thead><tr><th></th>{}</tr></thead><tbody>{}</tbody></table></div>'
        ).format(heads, body)


def _plain(image: Any) -> Any:
    """(C, H, W) in [0, 1] as uint8 pixels."""
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def _said(facts: dict[str, Any]) -> str:
    shown = f" Shown: {facts['shown']}, also of what was added and of maps." if facts.get("shown") else ""
    return shown + (f" Made {facts['made']}." if facts.get("made") else "")


def made(s: Scores) -> bool:
    """Whether the run made pictures, as far as its records say."""
    return packed(s.folder / "gallery.safetensors").exists() or any(x.get("step") == "gallery" for x in s.run.get("steps", []))


def missing(s: Scores) -> str:
    """Why a run has no pictures, as far as its records say."""
    run = s.run
    if packed(s.folder / "gallery.safetensors").exists():
        return "no test image is fooled by every attack, and only such images are shown"
    if made(s):
        again = run.get("command", "the same run")
        return f"the run made them, but these records of it were kept without; {again} makes them again"
    if any(g["failed"] for g in s.body["gates"]):
        return "the saliency model failed its check, and what depends on it was not computed"
    if not run.get("steps"):
        return "no pictures lie beside these records, and the records do not say whether any were made"
    return f"this run of recipe {s.body['recipe']['recipe']} made none"


def figures(s: Scores, suffix: str = "") -> list[Block | None]:
    """The figures of a run under the names that the paper has for its data set; where there are none, one sentence that says why."""
    gallery, names = Gallery(s), CALLED.get(column_of(s.dataset) or "", LIKE)
    if not gallery.count:
        every = "; ".join(f"{w} ({n[:1].lower()}{n[1:]} of the paper)" for n, w in zip(names, WHAT, strict=True))
        return [Block("", Markup('<p class="note">No pictures{}: {}. Left out: {}.</p>').format(suffix, missing(s), every))]
    titles = zip(names, WHAT, EXAMPLES, strict=True)
    blocks = [Block(f"{n}{suffix}: {w}", gallery.table(kind), SAYS[kind] + gallery.made) for n, w, kind in titles]
    return [blocks[0], *map(folded, blocks[1:])]
