"""Picture files: the answers are those of `salientry check --json`; a bad picture costs its own entry only."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from salientry.guard import Guard
from salientry.picture_check import picture_verdicts
from salientry.serve import Limits, app

from .tiny import SHAPE, X, encoded, guard, request


def form(*files: tuple[str, bytes]) -> dict[str, Any]:
    return {"files": [("pictures", (name, data, "application/octet-stream")) for name, data in files]}


def test_pictures_are_judged_as_the_guard_judges_their_pixels() -> None:
    kinds = {"a.png": ("PNG", {}), "b.webp": ("WEBP", {"lossless": True}), "c.jpg": ("JPEG", {"quality": 90})}
    files = [(name, encoded(X[i], kind, **how)) for i, (name, (kind, how)) in enumerate(kinds.items())]
    answer = request(app(guard()), "POST", "/check", **form(*files))
    assert answer.status_code == 200, answer.text
    pixels = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1) for _, data in files]
    wanted = picture_verdicts(guard(), list(kinds), guard()(torch.from_numpy(np.stack(pixels))))
    found = answer.json()["pictures"]
    assert [f["image"] for f in found] == list(kinds)
    for f, w in zip(found, wanted, strict=True):
        exact = {k: v for k, v in w.json().items() if k in ("flagged", "predicted", "reasons", "answers", "threshold")}
        assert {k: f[k] for k in exact} == exact and f.keys() == w.json().keys()
        np.testing.assert_allclose(f["score"], w.score, rtol=1e-4)
    assert (pixels[0] == X[0]).all() and (pixels[1] == X[1]).all() and (pixels[2] != X[2]).any()


def test_one_picture_is_a_body_by_itself() -> None:
    for kind in ({}, {"headers": {"Content-Type": "image/png"}}):
        answer = request(app(guard()), "POST", "/check", content=encoded(X[5]), **kind)
        assert answer.status_code == 200 and [p["image"] for p in answer.json()["pictures"]] == ["picture"]


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that says it is ``side`` pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


BAD = {
    "text": (b"<svg onload=alert(1)>", "no JPEG, PNG or WEBP"),
    "empty": (b"", "no JPEG, PNG or WEBP"),
    "cut": (encoded(X[0])[:200], "cannot be read"),
    "gif": (encoded(X[0], "GIF"), "no JPEG, PNG or WEBP"),
    "large": (encoded(np.zeros((3, 40, 40), np.uint8)), "the guard's images are 12 x 12"),
    "bomb": (bomb(5000), "has 5000 x 5000 pixels; 16777216 at most are read"),
    "larger bomb": (bomb(50_000), "Image size (2500000000 pixels) exceeds limit"),
    "alpha": (encoded(np.zeros((4, 12, 12), np.uint8)), "not fully opaque"),
    "16 bit": (b"", ""),
}
out = io.BytesIO()
Image.fromarray(np.zeros((12, 12), np.uint16)).save(out, "PNG")
BAD["16 bit"] = (out.getvalue(), "more than 8 bits")


def test_a_bad_picture_costs_its_own_entry_and_not_the_others() -> None:
    application = app(guard())
    mixed = [("good0.png", encoded(X[0])), *((name, data) for name, (data, _) in BAD.items()), ("good1.png", encoded(X[1]))]
    found = request(application, "POST", "/check", **form(*mixed)).json()["pictures"]
    assert [p["image"] for p in found] == [name for name, _ in mixed]
    alone = request(application, "POST", "/check", **form(mixed[0], mixed[-1])).json()["pictures"]
    for one, other in zip((found[0], found[-1]), alone, strict=True):
        assert (one["flagged"], one["predicted"], one["reasons"]) == (other["flagged"], other["predicted"], other["reasons"])
    for p, (name, (_, words)) in zip(found[1:-1], BAD.items(), strict=True):
        assert p.keys() == {"image", "error", "code"} and p["code"] == "bad_picture" and words in p["error"], (name, p)


def test_pictures_that_are_all_bad_are_an_answer_too() -> None:
    found = request(app(guard()), "POST", "/check", **form(("x", b"nothing"))).json()["pictures"]
    assert len(found) == 1 and "error" in found[0]


def test_pictures_of_other_sizes_are_resized_where_the_guard_says_how() -> None:
    g = guard()
    squashing = Guard(g.classifier, None, g.detector, g.threshold, 0.1, g.calibration, SHAPE, "squash")
    large = np.asarray(Image.fromarray(X[0].transpose(1, 2, 0)).resize((48, 36))).transpose(2, 0, 1)
    (found,) = request(app(squashing), "POST", "/check", content=encoded(large)).json()["pictures"]
    assert "error" not in found
    small = np.asarray(Image.fromarray(large.transpose(1, 2, 0)).resize((12, 12), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert found["score"] == pytest.approx(float(g(torch.from_numpy(small.copy())[None]).score), rel=1e-4)


@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ({"content": b""}, 400, "the body is empty"),
        ({"content": b"x", "headers": {"Content-Type": "text/html"}}, 415, "multipart/form-data or one of"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "the form is damaged"),
        ({"content": b"nothing", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "the form is damaged"),
        ({"data": {"a": "b"}, "files": {"": ("", b"")}}, 400, "holds no file"),
        (form(*[(f"{i}.png", b"x") for i in range(5)]), 413, "5 images were sent; 4 at most expected"),
    ],
)
def test_bodies_without_pictures_are_refused(how: Any, status: int, words: str) -> None:
    answer = request(app(guard(), limits=Limits(images=4)), "POST", "/check", **how)
    assert answer.status_code == status and words in answer.json()["error"], answer.text


def test_names_are_told_without_folders_and_control_characters() -> None:
    names = ["../../etc/passwd", "C:\\secret\\a.png", "a\tb.png", "é.png", "x" * 500]
    found = request(app(guard()), "POST", "/check", **form(*((n, b"x") for n in names))).json()["pictures"]
    assert [p["image"] for p in found][:2] == ["passwd", "a.png"] and len(found[4]["image"]) == 100
    assert all(p["image"].isprintable() and "/" not in p["image"] for p in found)


def test_enforce_is_422_with_the_verdicts() -> None:
    flagged = int(np.flatnonzero(guard()(torch.from_numpy(X)).flagged.numpy())[0])
    answer = request(app(guard(), mode="enforce"), "POST", "/check", **form(("bad", b""), ("a.png", encoded(X[flagged]))))
    assert answer.status_code == 422 and answer.json()["pictures"][1]["flagged"] and "error" in answer.json()["pictures"][0]
    marked = request(app(guard(), mode="mark"), "POST", "/check", **form(("bad", b""), ("a.png", encoded(X[flagged]))))
    assert marked.status_code == 200 and marked.headers["salientry-flagged"] == "1"
