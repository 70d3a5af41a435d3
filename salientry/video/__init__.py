"""A guard in front of a video: frames to verdicts, and one alarm over time."""

from .frames import Frame, frames
from .timeline import timeline
from .watch import Seen, Watched, watch

__all__ = ["Frame", "Seen", "Watched", "frames", "timeline", "watch"]
