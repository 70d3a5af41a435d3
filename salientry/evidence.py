"""One look at one batch: what the classifier says of it and where the saliency model looks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .errors import UsageError

GRADIENTS = ("gradient", "gradient_sum", "gradient_prob", "gradient_full")
PARTS = ("logits", "predicted", "map", "exists", "opinion", "features", *GRADIENTS)
FROM_SALIENCY = frozenset({"map", "exists", "opinion"})
AFTER = {"logits": ("predicted", "map", "exists", *GRADIENTS), "predicted": ("map", "exists", "gradient")}


LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)  # whose means are features


def has_features(classifier: nn.Module) -> bool:
    """Whether the classifier has layers whose means can be taken."""
    return any(isinstance(m, LAYERS) for m in classifier.modules())


class Evidence:
    """One look at one batch. Every part is made at most once, when first asked for.

    If ``image`` requires a gradient, every part is in its graph (the input gradient too, twice differentiable);
    otherwise nothing is. The caller sees to modes and to parameter gradients (:func:`contracts.frozen`).

    Args:
        classifier: images to logits; None if no part that needs it will be asked for.
        saliency: (image, class index) to ``map``, perhaps ``exists`` and ``opinion``; None likewise.
        image: (N, C, H, W) float in [0, 1].
        needs: what the one classifier pass should bring along, so that there need not be a second one.
        **parts: parts that are known already (from a store); they are not made again.

    Attributes:
        image: the batch.
        logits: (N, K).
        predicted: (N,) int64, the most likely class.
        map: (N, 1, H, W) in [0, 1], drawn for ``predicted``.
        exists: (N,) how strongly the saliency model believes that ``predicted`` is there; a logit.
        opinion: (N, K) log-probabilities of the saliency model's own encoder.
        gradient: (N, C, H, W) gradient of the logit of ``predicted``.
        gradient_sum: (N, C, H, W) gradient of the sum of all logits.
        gradient_prob: (N, C, H, W) gradient of the sum of all probabilities: what a framework gives that differentiates a
            vector by its sum; 0 but for rounding.
        gradient_full: (N, K C, H, W) gradients of all logits, class by class.
        features: (N, F) spatial means of what each convolution, batch norm and linear layer gives.

    Raises:
        UsageError: for a part that nothing here can make.

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

        Logits drop predicted, map, exists and the gradients; predicted drops map, exists and gradient; a map drops nothing.
        """
        stale = {after for name in parts for after in AFTER.get(name, ())}
        kept = {k: v for k, v in self._parts.items() if k not in stale} | parts
        return Evidence(self.classifier, self.saliency, self.image, self.needs, **kept)

    def __contains__(self, name: str) -> bool:
        """Whether the part is known already."""
        return name in self._parts

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or name not in PARTS:
            raise AttributeError(f"evidence has no part {name!r}; there are: image, {', '.join(PARTS)}")
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
            if name not in PARTS:
                raise UsageError(f"evidence has no part {name!r}; there are: {', '.join(PARTS)}")
            if len(value) != len(self.image):
                raise UsageError(f"{name} has {len(value)} rows for {len(self.image)} images")

    def _pass(self, name: str) -> None:
        """The classifier, once: logits, and as asked for or needed the input gradient and the layer means."""
        if self.classifier is None:
            raise UsageError(f"{name} needs a classifier, and this look has none")
        wanted = {n for n in self.needs | {name} if n not in self._parts}
        alive, gradients = self.image.requires_grad, [n for n in GRADIENTS if n in wanted]
        x = self.image if alive or not gradients else self.image.detach().requires_grad_()
        with torch.set_grad_enabled(x.requires_grad), _watching(self.classifier, "features" in wanted) as means:
            logits = self.classifier(x)
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
                self._parts["features"] = means()
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
            raise UsageError(f"{name} needs a saliency model, and this look has none")
        with torch.set_grad_enabled(self.image.requires_grad):
            said = self.saliency(self.image, self.predicted)
        for part in FROM_SALIENCY & set(said):
            self._parts.setdefault(part, said[part])
        if name not in self._parts:
            raise UsageError(f"the saliency model {type(self.saliency).__name__} gives no {name}, only {', '.join(said)}")


class _watching:
    """Collect the spatial means of each layer's output during one pass; the hooks are gone afterwards."""

    def __init__(self, module: nn.Module, wanted: bool) -> None:
        self.module, self.wanted, self.seen = module, wanted, list[Tensor]()
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Callable[[], Tensor]:
        if self.wanted:
            layers = [m for m in self.module.modules() if isinstance(m, LAYERS)]
            self.hooks = [
                m.register_forward_hook(lambda m, i, o: self.seen.append(o.flatten(2).mean(2) if o.dim() > 2 else o.clone()))
                for m in layers
            ]
        return self.means

    def means(self) -> Tensor:
        """(N, F) all layers' means, in the order in which they were passed."""
        if not self.seen:
            raise UsageError("features are the means of convolutions, batch norms and linear layers; this classifier has none")
        return torch.cat(self.seen, 1)

    def __exit__(self, *exception: object) -> None:
        for hook in self.hooks:
            hook.remove()
