"""A video's verdicts over time, as a picture."""

from __future__ import annotations

import math
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from .watch import Watched

WIDE, HIGH, LEFT, RIGHT, GAP, TOP = 1200, 130, 64, 24, 46, 40  # of a panel; the margins; between panels; above the first
INK, GREY, PALE, RED, BLUE = (32, 32, 36), (120, 120, 128), (222, 222, 228), (200, 30, 30), (40, 90, 170)
LEAST = 1e-4  # p-values below it stand at the edge


def timeline(watched: Watched) -> Image.Image:
    """Three panels over the same seconds: each frame's p-value, each block's share of flagged frames, the wealth of the bets.

    Args:
        watched: what :func:`~salientry.video.watch` gave.
    """
    image = Image.new("RGB", (WIDE, TOP + 3 * (HIGH + GAP)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    end = max(watched.seen[-1].seconds, 1e-3)
    draw.text((LEFT, 10), watched.line(), INK, ImageFont.load_default(15))

    def across(seconds: float) -> float:
        return LEFT + (WIDE - LEFT - RIGHT) * seconds / end

    panels = [_Panel(draw, font, k, across, end) for k in range(3)]
    least = math.log10(LEAST)
    panels[0].axes("p-value of each frame (red: flagged)", [(f"{10.0**e:g}", 1 - e / least) for e in (0, -1, -2, -3, -4)])
    for s in watched.seen:
        x, y = across(s.seconds), panels[0].down(1 - math.log10(max(s.p_value, LEAST)) / least)
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=RED if s.flagged else BLUE)
    panels[1].axes(f"share of flagged frames of each block (line: the level, {watched.level:g})", [("0", 0), ("0.5", 0.5), ("1", 1)])
    for b, after in zip(watched.blocks, (*watched.blocks[1:], None), strict=True):
        right = across(after.start if after else max(b.end, end))
        draw.rectangle((across(b.start), panels[1].down(b.share), max(across(b.start), right - 1), panels[1].down(0)), fill=BLUE)
    draw.line((LEFT, panels[1].down(watched.level), WIDE - RIGHT, panels[1].down(watched.level)), GREY)
    wealth, bar = [b.log10_wealth for b in watched.blocks], -math.log10(watched.alpha)
    low, high = min(-1.0, *wealth), max(bar + 0.5, *wealth)
    whole = range(math.ceil(low), math.floor(high) + 1, max(1, round((high - low) / 5)))
    panels[2].axes(f"log10 of the wealth of the bets (line: alarm at {bar:g})", [(str(v), (v - low) / (high - low)) for v in whole])
    level = panels[2].down((bar - low) / (high - low))
    draw.line((LEFT, level, WIDE - RIGHT, level), RED)
    points = [(across(0), panels[2].down((0 - low) / (high - low)))]
    points += [(across(b.end), panels[2].down((v - low) / (high - low))) for b, v in zip(watched.blocks, wealth, strict=True)]
    draw.line(points, BLUE, 2)
    if watched.alarm_at is not None:
        x = across(watched.alarm_at)
        draw.line((x, TOP, x, TOP + 3 * (HIGH + GAP) - GAP), RED)
        draw.text((min(x + 5, WIDE - 60), TOP + 2), "alarm", RED, font)
    return image


class _Panel:
    """One of the panels, and where its values stand."""

    def __init__(self, draw: Any, font: Any, number: int, across: Any, end: float) -> None:
        self.draw, self.font, self.across, self.end = draw, font, across, end
        self.top = TOP + number * (HIGH + GAP) + 18

    def down(self, share: float) -> float:
        """Where a share of the height stands."""
        return self.top + (HIGH - 18) * (1 - min(max(share, 0.0), 1.0))

    def axes(self, title: str, ticks: list[tuple[str, float]]) -> None:
        """The frame, its name, its scales."""
        self.draw.text((LEFT, self.top - 18), title, INK, self.font)
        for text, share in ticks:
            y = self.down(share)
            self.draw.line((LEFT, y, WIDE - RIGHT, y), PALE)
            self.draw.text((LEFT - 8, y), text, GREY, self.font, anchor="rm")
        step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600, math.inf) if self.end / s <= 12)
        for k in range(int(self.end / step) + 1 if step < math.inf else 1):
            x, t = self.across(k * step if step < math.inf else 0.0), k * step if step < math.inf else 0.0
            self.draw.line((x, self.down(0), x, self.down(0) + 4), GREY)
            self.draw.text((x, self.down(0) + 6), f"{t:g} s", GREY, self.font, anchor="ma")


__all__ = ["timeline"]
