"""Where the names of a scatter plot's points stand: beside them, on no other name, point or line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDE = 356  # pixels of a panel: what a telephone of 390 shows without shrinking it
TOP = 26
LETTER = 6.6  # pixels, mean width of one at 12 pixels
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Named:
    """A point in pixels, its name, and whether the name is wanted on the left."""

    name: str
    x: float
    y: float
    left: bool


@dataclass(frozen=True)
class Label:
    """A place for a name: its left end, its height, its box, and the line to it, None where it stands beside its point."""

    x: float
    y: float
    box: Box
    leader: Box | None


def placed(points: Sequence[Named], low: float) -> list[tuple[Named, Label]]:
    """Each name beside its point, moved until it lies on no other name and on no other point, then with a line to it; of such places the
    nearest whose line crosses no name, no line and no point. ``low``: pixels, below which no name stands.
    """
    dots: list[Box] = [(p.x - 6, p.y - 6, p.x + 6, p.y + 6) for p in points]
    found: list[tuple[Named, Label]] = []
    for k in sorted(range(len(points)), key=lambda k: -points[k].y):
        others, names = dots[:k] + dots[k + 1 :], [n for _, n in found]
        best, label = math.inf, None
        for far, place in _places(points[k], low, names, others):
            if far < best and (cost := far + _cost(place, names, others)) < best:
                best, label = cost, place
        if label is not None:
            found.append((points[k], label))
    return found


def _places(p: Named, low: float, names: Sequence[Label], others: Sequence[Box]) -> Iterator[tuple[float, Label]]:
    """Free places for a name, and how far off each is; the right-hand side first, the left where it is wanted or the edge is near."""
    long = LETTER * len(p.name)
    wanted = p.x + 10 + long > WIDE - 4 or p.left
    for d in (float(v * sign) for v in range(0, 200, 4) for sign in (1, -1)):
        for far in (10, 26):
            for left in (wanted, not wanted):
                x = p.x - far - long if left else p.x + far
                box = (x - 2, p.y + d - 8, x + long + 2, p.y + d + 6)
                inside = box[0] >= 2 and box[2] <= WIDE - 2 and box[1] >= TOP - 8 and box[3] <= low
                if inside and not any(meet(box, o) for o in (*others, *(n.box for n in names))):
                    leader = (p.x, p.y, x - 2 if x > p.x else x + long + 2, p.y + d) if abs(d) > 6 or far > 12 else None
                    yield abs(d) + far + 30 * (left != wanted), Label(x, p.y + d, box, leader)


def _cost(c: Label, names: Sequence[Label], others: Sequence[Box]) -> float:
    """What a place crosses: names and lines to names count most, then points."""
    found = sum(200.0 for n in names if n.leader and crosses(n.leader, c.box))
    if c.leader:
        found += sum(200.0 for n in names if crosses(c.leader, n.box) or (n.leader and _cut(c.leader, n.leader)))
        found += sum(15.0 for o in others if crosses(c.leader, o))
    return found


def _cut(a: Box, b: Box) -> bool:
    """Whether two lines, each from (x, y) to (x, y), cross."""

    def side(line: Box, x: float, y: float) -> float:
        return (line[2] - line[0]) * (y - line[1]) - (line[3] - line[1]) * (x - line[0])

    return side(a, *b[:2]) * side(a, *b[2:]) < 0 and side(b, *a[:2]) * side(b, *a[2:]) < 0


def crosses(line: Box, box: Box) -> bool:
    """Whether a line from (x, y) to (x, y) passes through a box, or ends in it."""
    x0, y0, x1, y1 = box
    edges = ((x0, y0, x1, y0), (x1, y0, x1, y1), (x1, y1, x0, y1), (x0, y1, x0, y0))
    return any(x0 < x < x1 and y0 < y < y1 for x, y in (line[:2], line[2:])) or any(_cut(line, e) for e in edges)


def meet(a: Box, b: Box) -> bool:
    """Whether two boxes have a point in common."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
