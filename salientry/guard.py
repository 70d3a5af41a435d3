"""The guard: classifier + saliency + detector + threshold. Images in, verdicts out."""

from __future__ import annotations

import contextlib
import warnings
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .detectors import as_detector, may_need
from .errors import UsageError, theirs
from .evidence import MASKED, UNDER, Evidence, unders_in
from .guard_card import Known, card_text, guard_card
from .guard_cost import guard_cost
from .guard_files import Saved, read_guard, write_guard
from .harmless import TRANSFORMS
from .inputs import as_images, plainly
from .layers import choose_layers
from .learned import device_of, facts_of
from .modules import private, versions
from .pixels import Resize
from .store import JSON, one_of, write_json, write_text
from .summary import guard_summary
from .types import Shape
from .verdict import Verdict


class _Asked:
    """The classifier that was given; what is run in its place; what it was like when that was made."""

    def __init__(self, given: nn.Module, needs: Collection[str] = (), shape: Shape | None = None, warned: bool = False) -> None:
        self.given, self.warned = given, warned
        self.weights, self.buffers = versions(given)
        self.master = private(given) if shape else given
        if shape and {"features", "activations"} & set(needs):
            choose_layers(self.master, (shape.channels, shape.height, shape.width))


@dataclass(frozen=True)
class _Nets:
    """The networks of one call, and what they were made of."""

    classifier: nn.Module
    saliency: nn.Module | None
    detector: nn.Module
    second: nn.Module | None
    made_of: Any


def _members(detector: nn.Module) -> list[Any]:
    """The detectors that a fusion is of."""
    return [p for p in detector.parts if hasattr(p, "settings")]  # type: ignore[union-attr]


def _scored(detector: nn.Module, seen: Evidence) -> tuple[Tensor, Tensor]:
    """Scores (N,) and what each component adds to them (N, D); each part of a fusion looks once."""
    if hasattr(detector.settings, "columns"):  # what a member adds is how far the score falls when its numbers are average
        fusion: Any = detector
        added: tuple[Tensor, Tensor] = fusion.head.added(fusion.settings.columns(seen))
        return added
    if not _members(detector):
        score: Tensor = detector(seen)
        return score, score[:, None]
    head: Any = detector.head
    view: Tensor = detector.view(seen)  # type: ignore[operator]
    return head(view), head.each(view)


def answers_of(seen: Evidence, needs: frozenset[str]) -> dict[str, Tensor]:
    """What other questions about the same images were answered, by name in words."""
    names = {n: TRANSFORMS[n.removeprefix(UNDER)].title for n in unders_in(needs) if n not in MASKED}
    asked = torch.stack([getattr(seen, n) for n in names]).argmax(2).unbind() if names else ()
    found = dict(zip(names.values(), asked, strict=True))
    return found | ({"asking the second network": seen.second_logits.argmax(1)} if "second_logits" in needs else {})


class Guard(nn.Module):
    """A fitted detector in front of one classifier, with a threshold whose false-positive rate is bounded.

    Args:
        classifier: images to logits. It is not stored, and not run: a private copy that shares its weights is
            (:func:`~salientry.modules.private`), so that its modes, flags, hooks and buffers are nobody's business but its owner's.
        saliency: its saliency model, or None if the detector needs none.
        detector: fitted: evidence to scores.
        threshold: flagged means ``score > threshold``.
        level: the false-positive rate that the threshold was calibrated for.
        calibration: scores of calibration naturals, for p-values.
        shape: of the images.
        resize: how ``salientry check`` brings pictures of another size to it: ``"squash"`` or ``"crop"``, as
            :class:`~salientry.datasets.Folder` does; None: it refuses them.
        second: another classifier that the detector asks; stored only if the fit trained it (:class:`~salientry.SecondNetwork`).

    Examples:
        >>> from salientry import Guard
        >>> guard = Guard.load("smoke-report/guard")                 # doctest: +SKIP
        >>> guard(images).flagged                                    # doctest: +SKIP
        tensor([False,  True])
    """

    calibration: Tensor

    def __init__(
        self,
        classifier: nn.Module,
        saliency: nn.Module | None,
        detector: nn.Module,
        threshold: float,
        level: float,
        calibration: Any,
        shape: Shape,
        resize: Resize | None = None,
        second: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if resize is not None:
            one_of("way to resize", resize, ("squash", "crop"))
        self.saliency, self.detector = saliency, detector
        self.threshold, self.level, self.shape, self.resize = threshold, level, shape, resize
        scores = calibration if isinstance(calibration, Tensor) else np.array(calibration)
        self.register_buffer("calibration", torch.as_tensor(scores, dtype=torch.float32).sort().values)
        self.training = False
        for part in self._learnt().values():
            part.eval()
        self._asked = _Asked(classifier, may_need(detector), shape)
        self._second = None if second is None else _Asked(second, (), shape)
        self._spare: deque[_Nets] = deque()

    @property
    def classifier(self) -> nn.Module:
        """The network that was given: never run, never changed, no part of ``state_dict``. In a copy of a guard it is a copy."""
        return self._asked.given

    @property
    def second(self) -> nn.Module | None:
        """The other network that is asked, as it was given; None: none is."""
        return None if self._second is None else self._second.given

    def forward(self, images: Tensor, batch: int = 250) -> Verdict:
        """Judge images (N, C, H, W) float in [0, 1], ``batch`` at a time, in float32 and without a graph, whatever modes of torch
        are on around the call. Any number of threads may call at the same time.

        Raises:
            UsageError: for anything else, with what was found and what was expected; for a network whose answers are not one
                row an image.
        """
        self._look_for_changes()
        with plainly(grad=False):
            images = as_images(images, (self.shape.channels, self.shape.height, self.shape.width)).to(self.calibration.device)
            with self.networks() as nets, theirs(f"the classifier fails on images {tuple(images.shape)}", nets.classifier):
                judged = [self._judge(x, nets) for x in torch.split(images, batch)] if len(images) else [self._judge(images, nets)]
        return Verdict.joined(judged)

    def _judge(self, x: Tensor, nets: _Nets) -> Verdict:
        needs: frozenset[str] = self.detector.needs  # type: ignore[assignment]
        seen = Evidence(nets.classifier, nets.saliency, x, needs, nets.second)
        score, contributions = _scored(nets.detector, seen)
        if not len(score) == len(seen.logits) == len(x):
            raise UsageError(f"{len(x)} images gave {len(seen.logits)} rows of logits and {len(score)} scores; each image must give one")
        n = len(self.calibration)
        at_least = n - torch.searchsorted(self.calibration, score.contiguous())
        flagged = ~(score <= self.threshold)  # nan is above, too
        drawn = None if nets.saliency is None else seen.map
        p_value = (1 + at_least).to(torch.float32) / (1 + n)
        return Verdict(flagged, score, p_value, seen.predicted, drawn, contributions, answers_of(seen, needs), seen.logits, self.components)

    @contextlib.contextmanager
    def networks(self) -> Iterator[_Nets]:
        """Networks that are this call's alone: those that an earlier call left, or new ones."""
        spare, asked = self._spare, self._asked
        now = versions(self), asked
        try:
            nets = spare.pop()
        except IndexError:
            nets = None
        if nets is None or nets.made_of != now:
            saliency = None if self.saliency is None else private(self.saliency)
            second = None if self._second is None else private(self._second.master)
            nets = _Nets(private(asked.master), saliency, private(self.detector), second, now)
        yield nets
        spare.append(nets)  # not after an exception, which may have left something half done

    def _look_for_changes(self) -> None:
        """The classifier that is run is the one that was given, as it was when the guard was made, or wholly as it is now: new weights
        beside old buffers would be a network that nobody has.
        """
        asked = self._asked
        now = versions(asked.given)
        weights = now[0] != asked.weights
        if not asked.warned and (weights or now[1] != asked.buffers):
            asked.warned = True
            what = "weights were written to or parts of it replaced. The guard runs it as it is now, but its"
            moved = "buffers were written to (did it run in training mode?). The guard runs it as it was. If it is to be used as it is, its"
            warnings.warn(
                f"the classifier has changed since this guard was made: its {what if weights else moved} detector and threshold were made "
                "for the old one: fit the guard again",
                stacklevel=5,  # past two of torch
            )
        if weights:
            with plainly(grad=False):
                found = _Asked(asked.given, may_need(self.detector), self.shape, warned=True)
                found.master.to(self.calibration.device)
            self._asked = found

    def _apply(self, fn: Any, recurse: bool = True) -> Guard:
        """What ``to``, ``cuda`` and the like do: the private classifier follows, the one that was given stays where it is."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for asked in (self._asked, self._second):
            if asked is not None:
                asked.master._apply(fn)  # type: ignore[no-untyped-call]
        self._spare = deque()
        return self

    def __getstate__(self) -> dict[str, Any]:
        second = None if self._second is None else self._second.master
        return vars(self) | {"_asked": self._asked.master, "_second": second, "_spare": deque()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._asked = _Asked(state["_asked"])
        self._second = None if state.get("_second") is None else _Asked(state["_second"])

    @property
    def components(self) -> tuple[str, ...]:
        """What the detector goes by, in words: of a fusion what each of its parts does."""
        asked: list[Any] = [d.settings for d in _members(self.detector) or [self.detector]]
        if len(asked) == 1 and hasattr(asked[0], "columns"):
            asked = list(asked[0].each)
        return tuple(getattr(d, "description", type(d).__name__) for d in asked)

    def summary(self) -> str:
        """How good it was when it was fitted, on one screen: accuracy of the classifier, what was kept and what left out, natural
        images flagged, and the share of each attack's images that is found, with n.
        """
        return guard_summary(facts_of(self.detector).get("fit"), self.threshold, self.level, len(self.calibration))

    def __str__(self) -> str:
        return self.summary()

    def cost(self) -> JSON:
        """What it costs beside its classifier on this machine, in passes and milliseconds: :func:`~salientry.guard_cost.guard_cost`."""
        return guard_cost(self)

    def card(self, class_names: Sequence[str] = (), command: str = "", cost: JSON = None) -> JSON:
        """Everything that is known of how good it is, as JSON: :func:`~salientry.guard_card.guard_card`.

        Args:
            class_names: of the classifier's classes, by number; empty: they have none.
            command: that checks pictures with this guard.
            cost: what :meth:`cost` gave; None: nothing is said of it.
        """
        above, n, s = int((self.calibration > self.threshold).sum()), len(self.calibration), self.shape
        facts, size = facts_of(self.detector).get("fit"), (s.channels, s.height, s.width, s.classes)
        known = Known(facts, self.threshold, self.level, n, above, size, self._second is not None, self.resize)
        return guard_card(known, class_names, command, cost)

    def report(self, folder: Path | str | None = None, class_names: Sequence[str] = (), command: str = "", cost: JSON = None) -> str:
        """The report: the short text, or, with a folder, a model card in Markdown that is also written there.

        Args:
            folder: gets ``card.md`` and ``card.json`` (what :meth:`card` gives); made when it is not there. None: nothing is written.
            class_names: as for :meth:`card`.
            command: as for :meth:`card`.
            cost: as for :meth:`card`.

        Raises:
            StoreError: when they cannot be written.
        """
        if folder is None:
            return self.summary()
        card = self.card(class_names, command, cost)
        text = card_text(card)
        write_json(Path(folder) / "card.json", card)
        write_text(Path(folder) / "card.md", text)
        return text

    # --- on disk ---

    def save(self, folder: Path | str, classifier_at: str | None = None) -> None:
        """Write ``guard.json`` and the arrays that it names, which replace an earlier guard together; of the classifier only who it is:
        weight hash and probe logits.

        Args:
            folder: made if it is not there.
            classifier_at: where a copy of the classifier lies, relative to ``folder``, for the command line.

        Raises:
            UsageError: when its threshold is not finite, its calibration scores are missing or nan, or its maps are made of a
                classifier of one's own.
            StoreError: when it cannot be written.
        """
        second = None if self._second is None else self._second.master
        parts = Saved(self._learnt(), self.calibration, self.threshold, self.level, self.shape, self.resize, second)
        write_guard(Path(folder), parts, self._asked.master, classifier_at)

    def _learnt(self) -> dict[str, nn.Module]:
        return {"detector": self.detector} | ({"saliency": self.saliency} if self.saliency is not None else {})

    @classmethod
    def load(cls, folder: Path | str, classifier: nn.Module, detector: Any = None, second: nn.Module | None = None) -> Guard:
        """Read a guard and put it in front of ``classifier``.

        Args:
            folder: that it was saved in.
            classifier: that it was fitted for.
            detector: a detector of your own that it was fitted with, where it cannot be found by its module and name.
            second: the second network that it was fitted with, if one was given to the fit.

        Raises:
            UsageError: when there is no guard in the folder, its detector, which is not ours, is not here, or it asks a second network
                that neither lies with it nor is given.
            WrongClassifier: when it was fitted for another one: the message has weight hash and probe logits of both.
            DataDamaged: when its files are not what was saved, or say nothing.
        """
        given, other = None if detector is None else as_detector(detector), None if second is None else private(second)
        saved = read_guard(Path(folder), private(classifier), given, other)
        saliency, detector = saved.learnt.get("saliency"), saved.learnt["detector"]
        beside = second if saved.second is other else saved.second  # the one that was given rather than its private copy
        guard = cls(classifier, saliency, detector, saved.threshold, saved.level, saved.calibration, saved.shape, saved.resize, beside)
        return guard.to(device_of(classifier))
