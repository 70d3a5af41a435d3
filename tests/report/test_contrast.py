"""Text on shaded cells is readable in every scheme of the page: a contrast of 4.5 or more, as the WCAG define it."""

from __future__ import annotations

import re
from importlib import resources

import pytest

Colour = tuple[float, float, float]
CSS = resources.files("salientry.report").joinpath("templates/style.css").read_text("utf-8")
SCHEMES = {
    "light": r"^:root \{([^}]*)\}",
    "dark": r"prefers-color-scheme: dark\) \{ :root \{([^}]*)\}",
    "print": r"@media print \{ :root \{([^}]*)\}",
}


def colours(scheme: str) -> dict[str, Colour]:
    """The named colours of a scheme, over those of the light one."""
    found: dict[str, Colour] = {}
    for of in dict.fromkeys(("light", scheme)):
        match = re.search(SCHEMES[of], CSS, re.MULTILINE)
        assert match, of
        for name, short in re.findall(r"--(\w+): #([0-9a-f]{6}|[0-9a-f]{3})\b", match[1]):
            long = short if len(short) == 6 else "".join(2 * c for c in short)
            found[name] = tuple(int(long[i : i + 2], 16) / 255 for i in (0, 2, 4))  # type: ignore[assignment]
    return found


def luminance(colour: Colour) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: Colour, b: Colour) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_has_the_greatest_contrast() -> None:
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_numbers_on_a_shaded_cell(scheme: str) -> None:
    known = colours(scheme)
    shades = re.findall(r"\.s(\d+) \{ --p: (\d+)%;( color: var\(--onshade\);)? \}", CSS)
    assert [int(k) for k, *_ in shades] == list(range(1, 11))
    assert sorted(int(p) for _, p, _ in shades) == [int(p) for _, p, _ in shades], "darker from step to step"
    for k, p, light in shades:
        share = int(p) / 100
        under: Colour = tuple(share * a + (1 - share) * b for a, b in zip(known["shade"], known["paper"], strict=True))  # type: ignore[assignment]
        assert contrast(under, known["onshade" if light else "ink"]) >= 4.5, k
