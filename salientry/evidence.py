"""One look at one batch: what the classifier says of it and where the saliency model looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from .errors import UsageError
from .harmless import TRANSFORMS, together
from .layers import Pooled, Watching, usual_layers
from .rows import at_once

GRADIENTS = ("gradient", "gradient_sum", "gradient_prob", "gradient_full")
PARTS = ("logits", "predicted", "map", "class_presence", "second_net_logprobs", "features", *GRADIENTS)
FROM_SALIENCY = frozenset({"map", "class_presence", "second_net_logprobs"})
LAYER = "activations/"  # before a layer's name: the part that holds what it gives
UNDER = "logits_under/"  # before the name of a transform: the part that holds the logits of the image that it gives
MASKED = (UNDER + "kept", UNDER + "removed")  # what the map keeps, what it leaves: the two terms of the paper's equation 2
SECOND = "second_logits"
UNDERS = (*(UNDER + name for name in TRANSFORMS), *MASKED)
FROM_MAP = ("map", "class_presence", *MASKED)
AFTER = {"logits": ("predicted", *FROM_MAP, *GRADIENTS), "predicted": (*FROM_MAP, "gradient"), "map": MASKED}
BESIDE = frozenset({"classifier", "training", "copies", "naturals"})  # what a detector may need that is no part: see types.Detector
NO_GRADIENT = "its forward pass gives none (does it run under no_grad, detach, or leave PyTorch?): take what needs no gradient"


def scoring_needs(needs: frozenset[str]) -> frozenset[str]:
    """A detector's needs without those that only ``fit`` has."""
    return needs - {"training", "copies", "naturals"}


def parts_in(needs: frozenset[str]) -> frozenset[str]:
    """Those of a detector's needs that are parts of the evidence."""
    return needs - BESIDE


def unders_in(needs: frozenset[str]) -> list[str]:
    """The parts among a detector's needs that ask the classifier about changed images, sorted."""
    return sorted(n for n in needs if n.startswith(UNDER))


def layers_in(needs: frozenset[str]) -> list[str] | None:
    """Names of the layers among a detector's needs, sorted; None: all usual ones."""
    return None if "activations" in needs else sorted(n.removeprefix(LAYER) for n in needs if n.startswith(LAYER))


class Evidence:
    """One look at one batch. Every part is made at most once, when first asked for.

    If ``image`` requires a gradient, every part is in its graph (the input gradient too, twice differentiable);
    otherwise nothing is. The caller sees to modes and to parameter gradients (:func:`learned.frozen`).

    Args:
        classifier: images to logits; None if no part that needs it will be asked for.
        saliency: (image, class index) to ``map``, perhaps ``class_presence`` and ``second_net_logprobs``; None likewise.
        image: (N, C, H, W) float in [0, 1].
        needs: what the one classifier pass should bring along, so that there need not be a second one; ``activations`` of all usual
            layers, ``activations/NAME`` of one, ``logits_under/NAME`` of a transform.
        second: another classifier of the same classes: images to logits; None if ``second_logits`` will not be asked for.
        **parts: parts that are known already (from a store); they are not made again.

    Attributes:
        image: the batch.
        logits: (N, K).
        predicted: (N,) int64, the most likely class.
        map: (N, 1, H, W) in [0, 1], drawn for ``predicted``.
        class_presence: (N,) how strongly the saliency model believes that ``predicted`` is there; a logit.
        second_net_logprobs: (N, K) log-probabilities of the saliency model's own encoder.
        second_logits: (N, K) of ``second``.
        logits_under/NAME: (N, K) logits of the images after the transform of that name (:data:`~salientry.harmless.TRANSFORMS`), read
            by :meth:`under`; ``kept`` and ``removed`` are the image where the map is, and where it is not, elsewhere its mean colour.
        gradient: (N, C, H, W) gradient of the logit of ``predicted``.
        gradient_sum: (N, C, H, W) gradient of the sum of all logits.
        gradient_prob: (N, C, H, W) gradient of the sum of all probabilities: what a framework gives that differentiates a
            vector by its sum; 0 but for rounding.
        gradient_full: (N, K C, H, W) gradients of all logits, class by class.
        features: (N, F) means of what each convolution, batch norm and linear layer gives, over the places of a map (N, C, H, W) and
            the tokens of a linear layer (N, T, C), (N, H, W, C); of the layers of :func:`~salientry.layers.choose_layers`, where it
            was asked.
        activations: by the name of a layer, or of a block of layers (``activations["layer3"]``), its mean, deviation and maximum over
            the places of a map or the tokens, (N, C) each: :class:`~salientry.layers.Pooled`. As a mapping its keys are the layers of
            ``features``; any other name of ``named_modules`` is made when asked for.
        classifier: what was given, to be asked again about other images.

    Raises:
        UsageError: for images that are no floats, a part that nothing here can make, or a layer that there is none of.

    Examples:
        >>> import torch
        >>> from salientry import Evidence
        >>> look = Evidence(torch.nn.Flatten(), None, torch.rand(2, 1, 2, 2))
        >>> look.logits.shape, look.put(predicted=torch.zeros(2, dtype=torch.int64)).predicted
        (torch.Size([2, 4]), tensor([0, 0]))
    """

    def __init__(
        self,
        classifier: nn.Module | None,
        saliency: nn.Module | None,
        image: Tensor,
        needs: frozenset[str] = frozenset(),
        second: nn.Module | None = None,
        **parts: Tensor,
    ) -> None:
        if not image.is_floating_point():  # of 8-bit pixels some detectors would have scores, and other ones
            raise UsageError(f"images are floats in [0, 1]; found {image.dtype}")
        self.classifier, self.saliency, self.image, self.needs, self.second = classifier, saliency, image, needs, second
        self._parts = dict(parts)
        self._shared = dict[Callable[[Tensor], Tensor], Tensor]()
        self._check(parts)

    def put(self, **parts: Tensor) -> Evidence:
        """The same look with these parts put in; what follows from a replaced part is made again when asked for.

        Logits drop predicted, the map, what was made of it and the gradients; predicted drops the map, what was made of it and the
        gradient; a map drops what is asked about its two parts.
        """
        stale = {after for name in parts for after in AFTER.get(name, ())}
        kept = {k: v for k, v in self._parts.items() if k not in stale} | parts
        return Evidence(self.classifier, self.saliency, self.image, self.needs, self.second, **kept)

    def __contains__(self, name: str) -> bool:
        """Whether the part is known already."""
        return name in self._parts

    def __len__(self) -> int:
        return len(self.image)

    @property
    def activations(self) -> Mapping[str, Pooled]:
        """What layers give, by name, in the names' order, as where evidence is stored; of layers that take part in the pass, where all
        usual ones were asked for.
        """
        if self.classifier is not None and "activations" in self.needs and not self._layers_known():
            self._pass("logits")
        names = set(self._layers_known())
        if self.classifier is not None and "activations" not in self.needs:
            names |= set(self._usual)
        return Activations(sorted(names), lambda name: getattr(self, LAYER + name))

    @cached_property
    def _usual(self) -> list[str]:
        """The classifier's usual layers."""
        return [] if self.classifier is None else usual_layers(self.classifier)

    def _layers_known(self) -> list[str]:
        """Names of the layers whose activations are known."""
        return [n.removeprefix(LAYER) for n in self._parts if n.startswith(LAYER)]

    def detached(self) -> Evidence:
        """The same out of the image's graph."""
        parts = {k: v.detach() for k, v in self._parts.items()}
        return Evidence(self.classifier, self.saliency, self.image.detach(), self.needs, self.second, **parts)

    def take(self, at: Tensor, needs: frozenset[str] | None = None) -> Evidence:
        """The same look at some of the images: what is known of them stays known, the rest is made for them alone.

        Args:
            at: (M,) int64 places, or (N,) bool.
            needs: of the new look; None: those of this one.
        """
        with torch.set_grad_enabled(self.image.requires_grad):
            parts = {k: v[at] for k, v in self._parts.items()}
            image = self.image[at]
        return Evidence(self.classifier, self.saliency, image, self.needs if needs is None else needs, self.second, **parts)

    def shared(self, make: Callable[[Tensor], Tensor]) -> Tensor:
        """What a function makes of the images: once, however many detectors ask for it."""
        if make not in self._shared:
            self._shared[make] = make(self.image)
        return self._shared[make]

    def under(self, name: str) -> Tensor:
        """(N, K) logits of the images after a transform: the part ``logits_under/NAME``."""
        return self.__getattr__(UNDER + name)

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or not _is_part(name):
            raise AttributeError(f"evidence has no part {name!r}; there are: image, {', '.join(PARTS)}, activations")
        if name not in self._parts:
            if name == "predicted":
                self._parts[name] = self.logits.argmax(1)
            elif name in FROM_SALIENCY:
                self._look(name)
            elif name == SECOND:
                self._parts[name] = self._opinion()
            elif name in MASKED:
                self._ask(self._masked())
            else:
                self._pass(name)
        return self._parts[name]

    def _check(self, parts: dict[str, Tensor]) -> None:
        for name, value in parts.items():
            if not _is_part(name):
                raise UsageError(f"evidence has no part {name!r}; there are: {', '.join(PARTS)}, {LAYER}NAME")
            if len(value) != len(self.image):
                raise UsageError(f"{name} has {len(value)} rows for {len(self.image)} images")

    def _pass(self, name: str) -> None:
        """The classifier, once: logits, and as asked for or needed the input gradient, the layer means and activations."""
        if self.classifier is None:
            raise UsageError(f"{name} needs a classifier, and none was given")
        asked = self.needs | {name}
        usual = [LAYER + n for n in self._usual] if "activations" in asked else []
        wanted = {n for n in (*asked, *usual) if n not in self._parts}
        layers = [n.removeprefix(LAYER) for n in sorted(wanted) if n.startswith(LAYER)]
        alive, gradients = self.image.requires_grad, [n for n in GRADIENTS if n in wanted]
        x = self.image if alive or not gradients else self.image.detach().requires_grad_()
        names = [n for n in unders_in(frozenset(wanted)) if n not in MASKED]
        changed = self._changed(names)
        rest = self._groups(changed, 0)
        if "logits" in self._parts and not (gradients or layers or "features" in wanted):  # the images themselves need not pass again
            for group in rest:
                self._ask(group)
            return
        groups = [{}, *rest] if gradients else self._groups(changed, 1)  # a gradient's pass is its own
        count = x.shape[0] * (1 + len(groups[0]))
        with torch.set_grad_enabled(x.requires_grad), Watching(self.classifier, "features" in wanted, layers, count, x.shape[0]) as seen:
            together = self.classifier(torch.cat([x, *groups[0].values()]) if groups[0] else x).to(x.dtype)
            logits, others = together[: x.shape[0]], together[x.shape[0] :]
        self._answered(others, groups[0])
        for group in groups[1:]:
            if group:
                self._ask(group)
        if gradients and not logits.requires_grad:
            raise UsageError(f"{gradients[0]} is a gradient of the classifier, and {NO_GRADIENT}")
        for kind in gradients:
            with torch.enable_grad():
                rows = self._differentiated(kind, logits)
            last = kind == gradients[-1]
            found = [
                torch.autograd.grad(r, x, create_graph=alive, retain_graph=alive or not last or j < len(rows) - 1)[0]
                for j, r in enumerate(rows)
            ]
            with torch.set_grad_enabled(alive):
                self._parts[kind] = torch.cat(found, 1)
        if "features" in wanted:
            with torch.set_grad_enabled(alive):
                self._parts["features"] = seen.means().to(x.dtype)
        layered = {LAYER + n: v.to(x.dtype) for n, v in seen.activations().items()}
        self._parts |= {n: v if alive else v.detach() for n, v in layered.items()}
        if name.startswith(LAYER) and name not in self._parts:
            raise UsageError(f"layer {name.removeprefix(LAYER)!r} takes no part in the classifier's forward pass")
        self._parts.setdefault("logits", logits if alive else logits.detach())

    def _changed(self, names: list[str]) -> dict[str, Tensor]:
        """The images under these transforms, by the parts' names."""
        with torch.set_grad_enabled(self.image.requires_grad):
            x = self.image.clamp(0, 1)  # an attack may leave it by a rounding error
            return dict(zip(names, together([TRANSFORMS[n.removeprefix(UNDER)] for n in names], x), strict=True))

    def _groups(self, changed: dict[str, Tensor], beside: int) -> list[dict[str, Tensor]]:
        """Changed images by name, in groups that the classifier sees at once: as many as memory allows, the first one with ``beside``
        batches more in it.
        """
        together = max(1, at_once(2**31, self.image[:1].numel()) // max(1, len(self.image)))
        groups, room = [dict[str, Tensor]()], together - beside
        for name, images in changed.items():
            if room < 1:
                groups, room = [*groups, {}], together
            groups[-1][name], room = images, room - 1
        return groups

    def _ask(self, changed: dict[str, Tensor]) -> None:
        """The classifier about changed images, in one pass."""
        if self.classifier is None:
            raise UsageError(f"{next(iter(changed))} needs a classifier, and none was given")
        with torch.set_grad_enabled(self.image.requires_grad):
            self._answered(self.classifier(torch.cat(list(changed.values()))).to(self.image.dtype), changed)

    def _answered(self, logits: Tensor, changed: dict[str, Tensor]) -> None:
        """Keep the logits of changed images, (M N, K), under their names."""
        alive = self.image.requires_grad
        for name, z in zip(changed, logits.reshape(len(changed), self.image.shape[0], logits.shape[1]) if changed else (), strict=True):
            self._parts[name] = z if alive else z.detach()

    def _opinion(self) -> Tensor:
        """The second net's logits."""
        if self.second is None:
            raise UsageError("second_logits needs a second net, and none was given")
        with torch.set_grad_enabled(self.image.requires_grad):
            found: Tensor = self.second(self.image).to(self.image.dtype)
        return found

    def _masked(self) -> dict[str, Tensor]:
        """The image where its map is, and where it is not, elsewhere its mean colour."""
        x, seen = self.image, self.map
        with torch.set_grad_enabled(x.requires_grad):
            behind = x.mean((2, 3), keepdim=True)
            return dict(zip(MASKED, (seen * x + (1 - seen) * behind, (1 - seen) * x + seen * behind), strict=True))

    def _differentiated(self, kind: str, logits: Tensor) -> list[Tensor]:
        """The scalars whose gradients in the image are the channels of this part."""
        if kind == "gradient":
            predicted = self._parts.get("predicted", self._parts.get("logits", logits).argmax(1))
            return [logits.gather(1, predicted[:, None]).sum()]
        if kind == "gradient_sum":
            return [logits.sum()]
        if kind == "gradient_prob":
            return [logits.softmax(1).sum()]
        return list(logits.sum(0))

    def _look(self, name: str) -> None:
        """The saliency model, once: everything that it says."""
        if self.saliency is None:
            raise UsageError(f"{name} needs a saliency model, and none was given")
        with torch.set_grad_enabled(self.image.requires_grad):
            said = self.saliency(self.image, self.predicted)
        for part in FROM_SALIENCY & set(said):
            self._parts.setdefault(part, said[part])
        if name not in self._parts:
            raise UsageError(f"the saliency model {type(self.saliency).__name__} gives no {name}, only {', '.join(said)}")


def _is_part(name: str) -> bool:
    return name in PARTS or name == SECOND or name in UNDERS or name.startswith(LAYER)


class Activations(Mapping[str, Pooled]):
    """What layers give, by name.

    Args:
        names: its keys.
        read: a layer's name, also of one that is no key, to (N, 3, C).
    """

    def __init__(self, names: list[str], read: Callable[[str], Tensor]) -> None:
        self._names, self._read = names, read

    def __getitem__(self, name: str) -> Pooled:
        return Pooled(*self._read(name).unbind(1))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names
