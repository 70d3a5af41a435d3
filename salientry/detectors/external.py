"""A detector of your own, where one of ours stands."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import hashlib
import inspect
import json
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UsageError, theirs
from ..evidence import BESIDE, PARTS, Evidence, scoring_needs
from ..learned import with_recipe
from ..modules import private
from ..randomness import uniform
from ..types import Shape
from ._state import feed_code, found_at, object_from_state, object_state, place_of

ARRAY = "array."
PROBES = 4
CLOSE = 1e-4  # how far the score of an image may differ alone and among others, of the scores' size
STANDS_IN: contextvars.ContextVar[ExternalDetector | None] = contextvars.ContextVar("detector", default=None)
_GIVEN: weakref.WeakValueDictionary[str, ExternalDetector] = weakref.WeakValueDictionary()  # those of this process, by fingerprint


class ExternalDetector:
    """A detector of your own as settings: anything that gives one score an image, higher for adversarial images.

    Args:
        detector: a callable (a function, an ``nn.Module``), images (N, C, H, W) float32 in [0, 1] to scores (N,); or an object with
            ``fit(evidence, labels)``, or ``fit(evidence, labels, seed=...)``, and ``score(evidence)``. ``fit`` is called on a copy,
            with an :class:`~salientry.evidence_set.EvidenceSet`; it may also return what scores: a callable of evidence.
        name: what tables call it; default the function's or class's own.
        needs: what an object reads of the evidence: names of its parts, ``activations`` (of all usual layers),
            ``activations/NAME``; ``classifier``, to ask it about other images; and for ``fit`` alone ``training`` and ``copies``.
            Default the object's own ``needs``, or none: then it reads images alone.
        group: in tables; any name. Default the object's own ``group``, or ``"own"``.
        description: what it goes by, in words: the reason that a verdict gives. Default the object's own, or its name.
        surrogate: differentiated in its place by a white-box attack, where it has no gradient of its own: a callable of images, or
            an object with ``score(evidence)``.
        at: ``module:name`` where a callable stands, or a function without arguments that makes one, so that a saved guard finds it
            again; default found out for functions and objects of importable classes.
        probes: its scores on noise, as :meth:`probed` found them: a part of its identity.

    Raises:
        UsageError: for what is no detector, or needs what there is not.

    Examples:
        >>> import torch
        >>> from salientry.detectors import ExternalDetector
        >>> ExternalDetector(lambda images: images.flatten(1).std(1), name="contrast")
        contrast
    """

    seeded, candidate = False, True

    def __init__(
        self,
        detector: Any,
        *,
        name: str = "",
        needs: Any = None,
        group: str = "",
        description: str = "",
        surrogate: Any = None,
        at: str = "",
        probes: str = "",
    ) -> None:
        if isinstance(detector, type) or not (callable(detector) or hasattr(detector, "score") or hasattr(detector, "fit")):
            found = f"the class {detector.__name__}; give an object of it" if isinstance(detector, type) else repr(detector)
            raise UsageError(
                f"detector must be settings, like SPD(), a callable, images to scores, or an object with fit and score; found {found}"
            )
        self.detector, self.surrogate, self.probes = detector, surrogate, probes
        self.name = name or getattr(detector, "name", "") or getattr(detector, "__name__", type(detector).__name__)
        self.needs = frozenset(getattr(detector, "needs", ()) if needs is None else needs)
        if wrong := sorted(n for n in self.needs if n not in (*PARTS, *BESIDE, "activations") and not n.startswith("activations/")):
            known = ", ".join((*PARTS, "activations", "activations/NAME", *sorted(BESIDE)))
            raise UsageError(f"the detector {self.name} needs {wrong[0]!r}, which is no part of the evidence; there are: {known}")
        _refuse(self.name, detector, self.needs)
        self.group = group or getattr(detector, "group", "") or "own"
        self.description = description or getattr(detector, "description", "") or self.name
        self.reads, self.at = self.group, at or place_of(detector)
        h = hashlib.sha256(repr([self.name, sorted(self.needs), self.group, self.probes]).encode())
        for thing in (detector, surrogate):
            feed_code(h, thing)
        self.fingerprint = h.hexdigest()
        _GIVEN[self.fingerprint] = self

    @property
    def fits(self) -> bool:
        """Whether it learns; else it is only calibrated."""
        return hasattr(self.detector, "fit")

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExternalDetector) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        names = ("detector", "name", "needs", "description", "surrogate", "at", "probes")
        return _again, ({n: getattr(self, n) for n in names} | {"group": self.group},)

    def probed(self, shape: Shape) -> ExternalDetector:
        """The same, identified by its scores on noise too, where it reads images alone: code and state do not say everything.

        Raises:
            UsageError: when it fails on images of this shape, a score is no finite number, or another among others.
        """
        if self.fits or self.needs:
            return self
        fitted, images = FittedExternal(self, self.ready()), probe_images(shape)
        with torch.no_grad():
            whole, alone = fitted(Evidence(None, None, images)), torch.cat([fitted(Evidence(None, None, x[None])) for x in images])
        if bad := int((~torch.stack([whole, alone]).isfinite()).any(0).sum()):
            raise UsageError(f"the detector {self.name} gives {bad} of {len(images)} images of noise a score that is no finite number")
        gap = float((whole - alone).abs().max())
        if not gap <= CLOSE * max(float(whole.abs().max()), 1.0):
            raise UsageError(f"the detector {self.name} gives an image another score alone than among others (by up to {gap:.3g})")
        return _again({**self.__reduce__()[1][0], "probes": hashlib.sha256(whole.cpu().numpy().tobytes()).hexdigest()})

    def fit(self, evidence: Any, labels: Tensor, *parts: nn.Module, seed: int) -> FittedExternal:
        """Fit a copy of it.

        Args:
            evidence: naturals and their adversarial twins, an :class:`~salientry.evidence_set.EvidenceSet`.
            labels: (N,) 0 natural, 1 adversarial.
            parts: not used.
            seed: handed on where its ``fit`` takes one.

        Raises:
            UsageError: for whatever it raises.
        """
        thing = self.ready()
        if self.fits:
            with theirs(f"the detector {self.name} fails in fit"), torch.enable_grad():
                takes = inspect.signature(thing.fit).parameters
                seeds = {"seed": seed} if "seed" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values()) else {}
                found = thing.fit(evidence, labels, **seeds)
            thing = found if callable(found) or hasattr(found, "score") else thing
        return _noted(FittedExternal(self, thing))

    def surrogate_detector(self) -> ExternalDetector:
        """The surrogate as a detector, with the same needs."""
        needs = self.needs if hasattr(self.surrogate, "score") else ()
        return ExternalDetector(self.surrogate, name=f"{self.name}'s surrogate", needs=needs)

    def ready(self) -> Any:
        """What may be run, or fitted: a network and an object are copied, for the one that was given is its owner's."""
        if isinstance(self.detector, nn.Module) and not self.fits:
            return copy.deepcopy(private(self.detector))
        return copy.deepcopy(self.detector) if self.fits else self.detector


def _refuse(name: str, detector: Any, needs: frozenset[str]) -> None:
    """Raise for what looks like a detector and cannot be called as one.

    Raises:
        UsageError: for an estimator of scikit-learn, and for a callable of more than images.
    """
    wrapped = "give an object with score(evidence), and with fit(evidence, labels) where it learns"
    if hasattr(detector, "fit") and hasattr(detector, "get_params") and not needs:
        why = "is an estimator of arrays, as those of scikit-learn, while fit gets evidence of images here"
        raise UsageError(f"{name} {why}: {wrapped}, which call it with evidence.logits or what else it reads")
    if hasattr(detector, "fit") or hasattr(detector, "score"):
        return
    if needs:
        raise UsageError(f"{name} is called with images alone and cannot read {', '.join(sorted(needs))}: {wrapped}")
    try:
        signature = inspect.signature(detector.forward if isinstance(detector, nn.Module) else detector)
    except (TypeError, ValueError):  # it has none that Python knows of
        return
    try:
        signature.bind(None)
    except TypeError:
        more = ", ".join(f"{p}" for p in signature.parameters)
        raise UsageError(f"{name} is called with images alone, and asks for ({more}): {wrapped}, whose needs name what it reads") from None


@contextlib.contextmanager
def substituting(given: ExternalDetector | None) -> Iterator[None]:
    """Inside, a user's own fitted detector is put together again from this one."""
    token = STANDS_IN.set(given)
    try:
        yield
    finally:
        STANDS_IN.reset(token)


def _again(given: dict[str, Any]) -> ExternalDetector:
    return ExternalDetector(given["detector"], **{k: v for k, v in given.items() if k != "detector"})


def as_detector(thing: Any) -> Any:
    """Settings of a detector: ours and whatever has the same form as they are, and anything else in an :class:`ExternalDetector`.

    Raises:
        UsageError: for what is no detector.
    """
    ours = all(hasattr(thing, name) for name in ("needs", "view", "build", "fit")) and not isinstance(thing, type)
    return thing if ours or isinstance(thing, ExternalDetector) else ExternalDetector(thing)


def probe_images(shape: Shape) -> Tensor:
    """(PROBES, C, H, W) noise, the same on every machine."""
    return uniform(torch.arange(PROBES), (shape.channels, shape.height, shape.width))


class FittedExternal(nn.Module):
    """``detector(evidence) -> scores (N,)`` of a user's own callable or object, checked at every call.

    Attributes:
        settings: an :class:`ExternalDetector`, or a :class:`Reference` to one.
        thing: what scores.
    """

    def __init__(self, settings: Any, thing: Any, state: str = "null") -> None:
        super().__init__()
        self.settings, self.thing, self.state, self.arrays, self.parts = settings, thing, state, dict[str, Tensor](), ()

    @property
    def needs(self) -> frozenset[str]:
        """What scoring reads of the evidence."""
        return scoring_needs(frozenset(self.settings.needs))

    def forward(self, evidence: Any) -> Tensor:
        """Scores (N,) of an :class:`~salientry.evidence.Evidence`.

        Raises:
            UsageError: for whatever it raises, for anything but one number an image, and when it writes into the evidence's images: a
                callable of images alone is given a copy and may.
        """
        image: Tensor = evidence.image
        if not len(image):  # many libraries refuse an empty array
            return image.new_zeros(0)
        before = image.detach().clone() if self._reads_evidence else None
        with theirs(f"the detector {self.settings.name} fails on images {tuple(image.shape)}"):
            try:
                found = self._asked(evidence)
            except RuntimeError as e:
                if not image.requires_grad or "requires grad" not in str(e):
                    raise
                with torch.no_grad():  # it leaves torch: it has no gradient
                    found = self._asked(evidence.detached())
        if before is not None and not torch.equal(image.detach(), before):
            image.detach().copy_(before)
            raise UsageError(f"the detector {self.settings.name} writes into the images that it is given; let it copy them first")
        return self._checked(found, image)

    @property
    def _reads_evidence(self) -> bool:
        return self.settings.fits or hasattr(self.thing, "score")

    def _asked(self, evidence: Any) -> Any:
        if hasattr(self.thing, "score"):
            return self.thing.score(evidence)
        return self.thing(evidence if self.settings.fits else evidence.image.clone())

    def _checked(self, found: Any, image: Tensor) -> Tensor:
        name = self.settings.name
        try:
            scores = found if isinstance(found, Tensor) else torch.as_tensor(np.asarray(found))
        except (TypeError, ValueError, RuntimeError):
            raise UsageError(f"the detector {name} gives a {type(found).__name__}; scores (N,) were expected") from None
        if scores.dim() == 2 and scores.shape[1] == 1:
            scores = scores[:, 0]
        if tuple(scores.shape) != (len(image),) or scores.is_complex():
            what = f"{str(scores.dtype).removeprefix('torch.')} of shape {tuple(scores.shape)}"
            raise UsageError(f"the detector {name} gives {what} for {len(image)} images; one score an image, ({len(image)},), was expected")
        return scores.to(image.device, image.dtype)

    # --- what is stored ---

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({f"{prefix}{ARRAY}{k}": v for k, v in self.arrays.items()})

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *given: Any) -> None:
        """Put an object together again; the weights of a network are loaded by torch."""
        arrays = {k.removeprefix(prefix + ARRAY): v for k, v in state_dict.items() if k.startswith(prefix + ARRAY)}
        if (state := json.loads(self.state)) is not None:
            self.thing, self.arrays = object_from_state(state, arrays), arrays


def _noted(fitted: FittedExternal) -> FittedExternal:
    """With a note of how it is found and put together again; without one where its state cannot be written down."""
    s, thing, state = fitted.settings, fitted.thing, None
    network = isinstance(thing, nn.Module)
    if not network and (s.fits or not s.at):
        try:
            state = object_state(thing, "state", fitted.arrays)
        except UsageError as e:
            fitted.arrays = {}
            if s.fits:
                vars(fitted)["unwritten"] = str(e)
                return fitted.eval()
    fitted.state = json.dumps(state)
    given = (s.fingerprint, s.name, tuple(sorted(s.needs)), s.group, s.description, s.fits, s.at, network, fitted.state)
    return with_recipe(fitted, Reference(*given))


@dataclass(frozen=True)
class Reference:
    """How a user's own fitted detector is found and put together again: what a store or a saved guard says of it.

    Attributes:
        fingerprint: of its settings.
        name: of the detector.
        needs: of it.
        group: of it.
        description: of it.
        fits: whether it learnt.
        at: ``module:name``.
        network: whether it is an ``nn.Module``.
        state: what an object knows, as JSON; its arrays lie beside.
    """

    fingerprint: str
    name: str
    needs: tuple[str, ...]
    group: str
    description: str
    fits: bool
    at: str
    network: bool
    state: str

    def build(self) -> FittedExternal:
        """It, but for arrays and weights: the one of this process, the one that stands in for it, or what is found at its name.

        Raises:
            UsageError: where there is none, with the way out.
        """
        given = STANDS_IN.get() or _GIVEN.get(self.fingerprint)
        if given is not None and given.fingerprint != self.fingerprint:  # what is known of it stays
            noted: dict[str, Any] = {"name": self.name, "needs": self.needs, "group": self.group, "description": self.description}
            given = ExternalDetector(given.detector, **noted, surrogate=given.surrogate, at=given.at)
        if self.state != "null":
            return with_recipe(FittedExternal(given or self, None, self.state), self)
        if given is not None:
            return with_recipe(FittedExternal(given, given.ready()), self)
        thing = found_at(self.at)
        if self.network and thing is not None and not isinstance(thing, nn.Module):
            thing = thing()
        if thing is None:
            module = self.at.partition(":")[0]
            way = f"it stood at {self.at}: import {module} first, or give it" if self.at else "it has no name to be found at: give it"
            give = "Guard.load(folder, classifier, detector=...), or check --detector module:name"
            raise UsageError(f"the detector {self.name} was not given; {way}, as in {give}")
        return with_recipe(FittedExternal(self, copy.deepcopy(thing)), self)
