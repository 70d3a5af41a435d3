"""The recorded measurements of the alarms hang together, and the changed images of the benchmark are what they are said to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import campaign, drift, video
from salientry.inference import exact_share
from salientry.store import read_json

RECORDS = {"drift": read_json(drift.OUT), "campaign": read_json(campaign.OUT), "video": read_json(video.OUT)}


def shares(found: Any) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict):
        if "share" in found:
            yield found
        for v in found.values():
            yield from shares(v)


@pytest.mark.parametrize("name", RECORDS)
def test_no_share_stands_without_its_counts_and_interval(name: str) -> None:
    found = list(shares(RECORDS[name]))
    assert len(found) > 8 and RECORDS[name]["command"] == f"python -m benchmarks.{name}"
    for s in found:
        assert s["share"] == s["count"] / s["of"] and (s["low"], s["high"]) == pytest.approx(exact_share(s["count"], s["of"]))


def test_medians_of_delays_are_ranked_and_streams_are_counted() -> None:
    body = RECORDS["drift"]
    for level in body["levels"].values():
        for d in (d for kinds in level["delays"].values() for d in kinds.values()):
            assert d["of"] + d["too early"] == body["streams"] and d["rang"] <= d["of"]
            assert (d["median"] is None) == (2 * d["rang"] < d["of"])
            assert d["median"] is None or d["low"] <= d["median"]
            assert d["high"] is None or d["high"] <= body["length"]


def test_the_median_has_an_interval_by_ranks() -> None:
    assert drift.median([float(i) for i in range(1, 101)]) == {"median": 50, "low": 40, "high": 61, "of": 100}
    assert drift.median([1.0] * 40 + [float("inf")] * 60)["median"] is None


@pytest.mark.parametrize("name", drift.CHANGES)
def test_changes_change_a_little_and_leave_a_plain_image_plain_on_average(name: str) -> None:
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = drift.CHANGES[name](x, np.random.default_rng(0))
    assert found.shape == x.shape and float(found.min()) >= 0 and float(found.max()) <= 1
    assert 0 < float((found - x).abs().mean()) < 0.3
    plain = drift.CHANGES[name](torch.full((1, 3, 32, 32), 0.5), np.random.default_rng(0))
    assert float(plain.mean()) == pytest.approx(0.6 if "brightness" in name else 0.5, abs=0.01)


def test_a_scene_is_one_picture_that_moves_slowly() -> None:
    picture = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    frames = video.scene(picture, 20, np.random.default_rng(2))
    assert frames.shape == (20, 3, 32, 32) and torch.equal((frames * 255).round() / 255, frames)
    steps, whole = (frames[1:] - frames[:-1]).abs().mean((1, 2, 3)), float((frames[-1] - frames[0]).abs().mean())
    assert 0 < float(steps.max()) < whole
