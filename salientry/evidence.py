"""One look at one batch: what the classifier says of it and where the saliency model looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from .errors import UsageError
from .layers import Pooled, Watching, usual_layers

GRADIENTS = ("gradient", "gradient_sum", "gradient_prob", "gradient_full")
PARTS = ("logits", "predicted", "map", "class_presence", "second_net_logprobs", "features", *GRADIENTS)
FROM_SALIENCY = frozenset({"map", "class_presence", "second_net_logprobs"})
AFTER = {"logits": ("predicted", "map", "class_presence", *GRADIENTS), "predicted": ("map", "class_presence", "gradient")}
LAYER = "activations/"  # before a layer's name: the part that holds what it gives
BESIDE = frozenset({"classifier", "training", "copies"})  # what a detector may need that is no part: see types.Detector
NO_GRADIENT = "its forward pass gives none (does it run under no_grad, detach, or leave PyTorch?): take what needs no gradient"


def scoring_needs(needs: frozenset[str]) -> frozenset[str]:
    """A detector's needs without those that only ``fit`` has."""
    return needs - {"training", "copies"}


def parts_in(needs: frozenset[str]) -> frozenset[str]:
    """Those of a detector's needs that are parts of the evidence."""
    return needs - BESIDE


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
            layers, ``activations/NAME`` of one.
        **parts: parts that are known already (from a store); they are not made again.

    Attributes:
        image: the batch.
        logits: (N, K).
        predicted: (N,) int64, the most likely class.
        map: (N, 1, H, W) in [0, 1], drawn for ``predicted``.
        class_presence: (N,) how strongly the saliency model believes that ``predicted`` is there; a logit.
        second_net_logprobs: (N, K) log-probabilities of the saliency model's own encoder.
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
        UsageError: for a part that nothing here can make, or a layer that there is none of.

    Example:
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
        **parts: Tensor,
    ) -> None:
        self.classifier, self.saliency, self.image, self.needs = classifier, saliency, image, needs
        self._parts = dict(parts)
        self._check(parts)

    def put(self, **parts: Tensor) -> Evidence:
        """The same look with these parts put in; what follows from a replaced part is made again when asked for.

        Logits drop predicted, map, class_presence and the gradients; predicted drops map, class_presence and gradient; a map drops nothing.
        """
        stale = {after for name in parts for after in AFTER.get(name, ())}
        kept = {k: v for k, v in self._parts.items() if k not in stale} | parts
        return Evidence(self.classifier, self.saliency, self.image, self.needs, **kept)

    def __contains__(self, name: str) -> bool:
        """Whether the part is known already."""
        return name in self._parts

    def __len__(self) -> int:
        return len(self.image)

    @property
    def activations(self) -> Mapping[str, Pooled]:
        """What layers give, by name."""
        known = [n.removeprefix(LAYER) for n in self._parts if n.startswith(LAYER)]
        names = known if self.classifier is None else [*dict.fromkeys([*usual_layers(self.classifier), *known])]
        return Activations(names, lambda name: getattr(self, LAYER + name))

    def detached(self) -> Evidence:
        """The same out of the image's graph."""
        parts = {k: v.detach() for k, v in self._parts.items()}
        return Evidence(self.classifier, self.saliency, self.image.detach(), self.needs, **parts)

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or not _is_part(name):
            raise AttributeError(f"evidence has no part {name!r}; there are: image, {', '.join(PARTS)}, activations")
        if name not in self._parts:
            if name == "predicted":
                self._parts[name] = self.logits.argmax(1)
            elif name in FROM_SALIENCY:
                self._look(name)
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
        usual = [LAYER + n for n in usual_layers(self.classifier)] if "activations" in asked else []
        wanted = {n for n in (*asked, *usual) if n not in self._parts}
        layers = [n.removeprefix(LAYER) for n in sorted(wanted) if n.startswith(LAYER)]
        alive, gradients = self.image.requires_grad, [n for n in GRADIENTS if n in wanted]
        x = self.image if alive or not gradients else self.image.detach().requires_grad_()
        with torch.set_grad_enabled(x.requires_grad), Watching(self.classifier, "features" in wanted, layers, len(x)) as seen:
            logits = self.classifier(x).to(x.dtype)
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
        self._parts |= {LAYER + n: v.to(x.dtype) if alive else v.to(x.dtype).detach() for n, v in seen.activations().items()}
        if name.startswith(LAYER) and name not in self._parts:
            raise UsageError(f"layer {name.removeprefix(LAYER)!r} takes no part in the classifier's forward pass")
        self._parts.setdefault("logits", logits if alive else logits.detach())

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
    return name in PARTS or name.startswith(LAYER)


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
