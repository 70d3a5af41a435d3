"""What a fitted guard says of itself, on one screen."""

from __future__ import annotations

from .store import JSON


def guard_summary(facts: JSON, threshold: float, level: float, calibration: int) -> str:
    """Lines of text.

    Args:
        facts: what ``fit_guard`` recorded with the detector under ``fit``; None when a guard was made otherwise.
        threshold: of the guard.
        level: the false-positive rate that the threshold guarantees.
        calibration: images that it was calibrated on.
    """
    bound = f"flags scores above {threshold:.4g}: at most {level:.3g} of naturals like the {calibration} it was calibrated on (95 % sure)"
    if not facts:
        return f"{bound}\nhow well it detects was not recorded when it was made"
    lines = [facts["classifier"], f"detector: {facts['detector']}, the best of {facts['candidates']}", bound]
    lines.append(f"natural images flagged: {_share(*facts['natural'])}, of images that it was not trained on (its choice was made on them)")
    width = max((len(a["attack"]) for a in facts["attacks"]), default=6)
    head = f"{'attack':<{width}}  {'found':>18}"
    unseen = any(a.get("unseen") is not None for a in facts["attacks"])
    lines.append(head + ("  found when training left it out" if unseen else ""))
    for a in facts["attacks"]:
        line = f"{a['attack']:<{width}}  {_share(*a['found']):>18}"
        lines.append(line + (f"  {a['unseen']:.3f}" if a.get("unseen") is not None else ""))
    lines += [f"left out: {text}" for text in facts["left_out"]]
    return "\n".join(lines)


def _share(count: int, of: int) -> str:
    return f"{count / of:.3f} ({count} of {of})" if of else "- (of 0)"
