"""Videos: what comes in is what was written, bad files are one line, and the alarm over time follows its rule."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from typer.testing import CliRunner

from salientry.classifiers import save_classifier
from salientry.cli import app
from salientry.drift import FlagRate
from salientry.errors import DataDamaged, DataMissing, StoreError, UsageError
from salientry.pixels import read_pixels
from salientry.types import Shape
from salientry.verdict import Verdict
from salientry.video import Watched, frames, timeline, watch
from salientry.video.overlay import BAR, Overlay, _lines, drawn

from ..test_recalibration import made

av = pytest.importorskip("av")


class Told:
    """In a guard's place: flags frames that are brighter than half."""

    level, resize = 0.05, None

    def __init__(self, channels: int = 3, maps: bool = False) -> None:
        self.shape, self.maps = Shape(channels, 16, 16, 5), maps

    def __call__(self, x: Tensor) -> Verdict:
        assert x.shape[1:] == (self.shape.channels, 16, 16) and torch.equal((x * 255).round() / 255, x)
        score = x.mean((1, 2, 3)) - 0.5
        flagged, n = score > 0, len(x)
        answers = {"a blur": torch.where(flagged, 3, 2)}
        drawn = torch.ones(n, 1, 16, 16) if self.maps else None
        return Verdict(flagged, score, torch.where(flagged, 0.01, 0.5), torch.full((n,), 2), drawn, torch.zeros(n, 1), answers)


def clip(path: Path, levels: Any, size: tuple[int, int] = (32, 24), rate: int = 10, codec: str = "libx264") -> Path:
    """A video of plain frames of these grey levels; of an MP4 file its index stands first."""
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for v in levels:
            picture: NDArray[np.uint8] = np.full((size[1], size[0], 3), v, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


def folder(path: Path, levels: Any) -> Path:
    path.mkdir()
    for i, v in enumerate(levels):
        Image.new("RGB", (32, 24), (v, v, v)).save(path / f"{i:04d}.png")
    return path


def watched(path: Path, **how: Any) -> Watched:
    guard: Any = Told()
    return watch(guard, path, **how)


# --- frames ------------------------------------------------------------------------------------------------------------


def test_what_comes_in_is_what_was_written(tmp_path: Path) -> None:
    levels = [10, 60, 110, 160, 210, 250, 30]
    found = list(frames(clip(tmp_path / "a.mp4", levels)))
    assert [f.index for f in found] == list(range(7))
    assert [f.seconds for f in found] == pytest.approx([i / 10 for i in range(7)])
    assert all(f.pixels.shape == (24, 32, 3) and f.pixels.dtype == np.uint8 for f in found)
    np.testing.assert_allclose([f.pixels.mean() for f in found], levels, atol=4)  # the codec's loss
    some = list(frames(tmp_path / "a.mp4", every=3))
    assert [(f.index, f.seconds) for f in some] == [(0, 0.0), (3, pytest.approx(0.3)), (6, pytest.approx(0.6))]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_a_whole_file_of_any_kind_is_read_to_its_end(tmp_path: Path, suffix: str) -> None:
    for count in (1, 2, 40):
        path = clip(tmp_path / f"{count}.{suffix}", range(count), codec="mpeg4" if suffix == "avi" else "libx264")
        assert len(list(frames(path))) == count


def test_a_folder_of_pictures_is_a_video_without_loss(tmp_path: Path) -> None:
    found = list(frames(folder(tmp_path / "a", [5, 100, 200]), rate=4))
    assert [(f.seconds, int(f.pixels.min()), int(f.pixels.max())) for f in found] == [(0, 5, 5), (0.25, 100, 100), (0.5, 200, 200)]
    Image.new("L", (32, 24), 9).save(tmp_path / "a" / "9.png")  # a grey picture is a frame as well
    assert list(frames(tmp_path / "a"))[-1].pixels.shape == (24, 32, 3)


def bad(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "bad.mp4"
    if kind == "text":
        path.write_text("this is no video")
    if kind == "empty":
        path.touch()
    if kind == "no index":
        path.write_bytes(clip(tmp_path / "whole.mp4", range(0, 250, 2)).read_bytes()[:500])
    if kind in ("mp4", "mkv", "avi"):
        path = tmp_path / f"bad.{kind}"
        whole = clip(tmp_path / f"whole.{kind}", range(0, 250, 2), codec="mpeg4" if kind == "avi" else "libx264").read_bytes()
        path.write_bytes(whole[: len(whole) * 3 // 4])
    if kind == "sound":
        path = tmp_path / "bad.wav"
        with av.open(str(path), "w") as file:
            stream = file.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
            frame.rate = 8000
            for packet in stream.encode(frame):
                file.mux(packet)
    if kind == "changes":
        Image.new("RGB", (30, 24)).save(folder(path, [1, 2]) / "9.png")
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", "cannot be read as a video"),
        ("empty", "cannot be read as a video"),
        ("no index", "cannot be read as a video"),
        ("mp4", r"ends after \d+ of 125 frames: it is not whole"),
        ("mkv", r"ends after \d+ of 12\d frames: it is not whole"),
        ("avi", "is damaged at frame|it is not whole"),
        ("sound", "no video stream"),
        ("changes", "changes its size at frame 2: 32 x 24 before, 30 x 24 there"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(DataDamaged, match=words) as found:
        watched(bad(tmp_path, kind))
    assert "\n" not in str(found.value)
    assert not re.search(r"Errno|av/|/site-packages/|\w+Error", str(found.value)), "what FFmpeg says, and nothing of how we asked it"


def test_what_ffmpeg_says_of_a_file_is_the_reason(tmp_path: Path) -> None:
    path = bad(tmp_path, "text")
    with pytest.raises(DataDamaged) as found:
        watched(path)
    assert str(found.value) == f"{path} cannot be read as a video: Invalid data found when processing input"
    with pytest.raises(StoreError) as unwritten, Overlay(tmp_path / "o.mp4", 64) as overlay, overlay._said():
        raise av.error.InvalidDataError(1094995529, "Invalid data found when processing input", "o.mp4")
    assert str(unwritten.value) == f"{tmp_path / 'o.mp4'} cannot be written: Invalid data found when processing input"


def test_what_is_not_there_and_what_cannot_be_meant(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no video at"):
        watched(tmp_path / "none.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataMissing, match="no pictures in"):
        watched(tmp_path / "empty")
    path = folder(tmp_path / "a", [1])
    for how in ({"every": 0}, {"block": 0}, {"rate": -1}, {"resize": "stretch"}, {"alpha": 2}, {"overlay": tmp_path / "o.mp4", "size": 1}):
        with pytest.raises(UsageError):
            watched(path, **how)
    guard: Any = Told(channels=4)
    with pytest.raises(UsageError, match="4 channels"):
        watch(guard, path)


# --- the alarm over time -------------------------------------------------------------------------------------------------


def test_each_block_is_one_bet_on_its_share_of_flagged_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    levels = np.where(rng.random(95) < 0.3, 200, 20)
    found = watched(folder(tmp_path / "a", levels), rate=10, block=1.0)
    shares = [float((levels[k : k + 10] > 127).mean()) for k in range(0, 95, 10)]
    assert [b.share for b in found.blocks] == pytest.approx(shares)
    by_hand = FlagRate(0.05)
    by_hand.update_shares(shares)
    assert found.alarm == by_hand.alarm and found.blocks[-1].log10_wealth == pytest.approx(by_hand.summary()["log10_wealth"])
    assert [s.flagged for s in found.seen] == (levels > 127).tolist()


def test_one_false_frame_in_twenty_does_not_ring(tmp_path: Path) -> None:
    levels = [200 if i % 20 == 7 else 20 for i in range(400)]
    found = watched(folder(tmp_path / "a", levels), rate=10)
    assert not found.alarm and sum(s.flagged for s in found.seen) == 20 and not any(s.alarm for s in found.seen)


def test_an_attacked_segment_rings_once_and_says_since_when(tmp_path: Path) -> None:
    levels = [20] * 100 + [200] * 100 + [20] * 50
    found = watched(folder(tmp_path / "a", levels), rate=10)
    assert found.alarm and found.alarm_at is not None and 10 < found.alarm_at < 17 and found.since == pytest.approx(10.0)
    first = next(s for s in found.seen if s.alarm)
    assert first.seconds == pytest.approx(found.alarm_at + 0.1) and all(s.alarm for s in found.seen[first.frame :])
    assert "ALARM at" in found.line() and found.json()["since"] == pytest.approx(10.0)


def test_longer_blocks_hear_less(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", [20] * 100 + [200] * 60)
    assert watched(path, rate=10).alarm and not watched(path, rate=10, block=20.0).alarm


def test_the_last_block_is_bet_on_too_and_one_frame_is_a_video(tmp_path: Path) -> None:
    found = watched(folder(tmp_path / "a", [200]))
    assert len(found.blocks) == 1 and found.blocks[0].share == 1 and found.rate is None and found.dropped == 0
    assert timeline(found).size == timeline(found).size


def test_dropped_frames_follow_from_the_speed() -> None:
    words: Any = {"seen": (), "blocks": (), "alarm": False, "alarm_at": None, "since": None, "level": 0.05, "alpha": 0.01}
    assert Watched(**words, rate=25.0, speed=10.0).dropped == pytest.approx(0.6)
    assert Watched(**words, rate=25.0, speed=40.0).dropped == 0


# --- what is drawn and written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("maps", [False, True])
def test_the_overlay_is_a_video_of_the_judged_frames(tmp_path: Path, maps: bool) -> None:
    guard: Any = Told(maps=maps)
    watch(guard, clip(tmp_path / "a.mp4", [20] * 6 + [200] * 6), every=2, overlay=tmp_path / "o.mp4", size=121)
    found = list(frames(tmp_path / "o.mp4"))
    assert len(found) == 6 and [f.seconds for f in found] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    high = 2 * round(121 / 2)
    assert found[0].pixels.shape == (high + BAR, 2 * round(121 * 32 / 24 / 2), 3)
    clean, flagged = (f.pixels.astype(int) for f in (found[0], found[-1]))
    assert flagged[3, 3, 0] > flagged[3, 3, 2] + 60 and (maps or abs(clean[3, 3, 0] - clean[3, 3, 2]) < 20)  # the border is red
    middle = clean[high // 2, 60]
    assert (middle[0] > middle[2] + 40) == maps


def test_a_video_that_breaks_leaves_no_overlay(tmp_path: Path) -> None:
    with pytest.raises(DataDamaged):
        watched(bad(tmp_path, "mkv"), overlay=tmp_path / "o.mp4")
    with pytest.raises(DataDamaged):
        watched(bad(tmp_path, "changes").rename(tmp_path / "again"), overlay=tmp_path / "o.mp4")
    assert not [p for p in tmp_path.iterdir() if "o.mp4" in p.name]


def test_reasons_take_two_lines_and_end_in_dots_where_they_are_longer(tmp_path: Path) -> None:
    frame = next(frames(folder(tmp_path / "a", [200])))
    verdict = Told()(torch.ones(1, 3, 16, 16))
    said = {"flagged": True, "predicted": 2, "p_value": 0.01, "alarm": True, "reasons": "after a blur it is 6, not 5 " * 20}
    assert drawn(frame, verdict, said, 3.0, 120).size == (160, 120 + BAR)
    draw, font = ImageDraw.Draw(Image.new("RGB", (1, 1))), ImageFont.load_default(14)
    assert _lines("", 200, draw, font) == [""] and _lines("after a blur", 200, draw, font) == ["after a blur"]
    for words in (8, 12, 40):
        text = " ".join(f"word{i}" for i in range(words))
        lines = _lines(text, 200, draw, font)
        assert len(lines) == 2 and all(draw.textlength(line, font) <= 200 for line in lines)
        assert (" ".join(lines) == text) != lines[1].endswith(" ...")


def test_the_timeline_shows_flags_and_the_alarm(tmp_path: Path) -> None:
    calm, loud = watched(folder(tmp_path / "a", [20] * 200), rate=10), watched(folder(tmp_path / "b", [20] * 50 + [200] * 150), rate=10)

    def red(found: Watched) -> int:
        x = np.asarray(timeline(found)).astype(int)
        return int(((x[..., 0] > 150) & (x[..., 1] < 60)).sum())

    assert red(loud) > red(calm) + 500  # dots, and the line of the alarm


# --- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    guard, folder = made(), tmp_path_factory.mktemp("saved") / "guard"
    guard.save(folder, classifier_at="classifier")
    save_classifier(guard.classifier, folder / "classifier")
    return folder


def test_the_command_prints_a_json_object_a_frame_and_writes_pictures(saved: Path, tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", range(0, 250, 10))
    out, drawn = tmp_path / "o.mp4", tmp_path / "t.png"
    done = CliRunner().invoke(app, ["watch", str(saved), str(path), "--json", "--every", "2", "--out", str(out), "--timeline", str(drawn)])
    assert done.exit_code in (0, 1), done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["frame"] for line in lines[:-1]] == list(range(0, 25, 2))
    assert set(lines[0]) == {"frame", "seconds", "predicted", "score", "p_value", "flagged", "reasons", "alarm"}
    assert lines[-1]["frames"] == 13 and lines[-1]["alarm"] == bool(done.exit_code)
    assert out.stat().st_size > 0 and read_pixels(drawn).shape[2] == 1200


def test_the_command_says_in_one_line_what_came_of_it(saved: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["watch", str(saved), str(clip(tmp_path / "a.mp4", [90] * 20))])
    assert len(done.stdout.splitlines()) == 1 and "of 20 frames flagged" in done.stdout and "frames a second" in done.stdout
    for words in ([str(bad(tmp_path, "text"))], [str(tmp_path / "a.mp4"), "--out", str(tmp_path / "a.mp4")], [str(tmp_path / "none.mp4")]):
        done = CliRunner().invoke(app, ["watch", str(saved), *words])
        assert done.exit_code == 2 and len(done.output.splitlines()) == 1 and done.output.startswith("error: "), done.output
