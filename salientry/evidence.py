"""One look at one batch: what the classifier says of it and where the saliency model looks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .contracts import device_of, uniform
from .errors import UsageError
from .inputs import plainly

GRADIENTS = ("gradient", "gradient_sum", "gradient_prob", "gradient_full")
PARTS = ("logits", "predicted", "map", "exists", "opinion", "features", *GRADIENTS)
FROM_SALIENCY = frozenset({"map", "exists", "opinion"})
AFTER = {"logits": ("predicted", "map", "exists", *GRADIENTS), "predicted": ("map", "exists", "gradient")}


LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)  # whose means are features
NO_GRADIENT = "its forward pass gives none (does it run under no_grad, detach, or leave PyTorch?): take what needs no gradient"
NAMED = 5  # layers that a message names
ROUNDING = 1e-2  # of the largest value: how much the same image's row may differ at another place of a batch (half precision)


def has_features(classifier: nn.Module) -> bool:
    """Whether the classifier has layers whose means can be taken."""
    return bool(_layers(classifier))


def choose_layers(classifier: nn.Module, shape: tuple[int, ...]) -> str:
    """Look which layers give one row an image, and note on the classifier that only their means are its features.

    A layer is used if, for three images and for five, each of its outputs has as many rows as there are images, and the rows are in
    another order when the images are. That leaves out windows that are stacked among the images, tokens first (T, N, C), tokens
    flattened (N T, C), several versions of each image in one batch, and networks that pass image by image.

    Args:
        classifier: a network of one's own (:func:`~salientry.modules.private`), for it is noted there.
        shape: (C, H, W) of the images; noise of this shape is passed, the same on every machine.

    Returns:
        What was left out and why, in words; empty when nothing was.
    """
    layers: dict[str, nn.Module] = {name: m for name, m in classifier.named_modules() if isinstance(m, LAYERS)}
    fits, why = dict.fromkeys(layers, True), dict[str, str]()
    for count in (3, 5) if layers else ():
        x = uniform(torch.arange(count, device=device_of(classifier)), shape)
        turned = torch.arange(count).roll(1)
        with plainly(grad=False):
            seen, again = (_outputs(classifier, layers, images) for images in (x, x[turned]))
        for name in layers:
            found = [tuple(o.shape) for o in seen[name]]
            if not _by_image(seen[name], again[name], turned):
                fits[name] = False
                why.setdefault(name, f"{name} ({', '.join(map(str, found[:2]))} for {count} images)")
    vars(classifier)["layers"] = tuple(name for name in layers if fits[name])
    if not why:
        return ""
    more = f" and {len(why) - NAMED} more" if len(why) > NAMED else ""
    return (
        f"{len(why)} of {len(layers)} layers are left out of the features, for what they give is not one row an image: "
        f"{', '.join(list(why.values())[:NAMED])}{more}"
    )


def _layers(classifier: nn.Module) -> list[nn.Module]:
    """The layers whose means are features: all of the usual kinds, or those that were chosen."""
    chosen = vars(classifier).get("layers")
    return [m for n, m in classifier.named_modules() if isinstance(m, LAYERS) and (chosen is None or n in chosen)]


def _outputs(classifier: nn.Module, layers: dict[str, nn.Module], x: Tensor) -> dict[str, list[Tensor]]:
    """What each layer gives in one pass, call by call."""
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    hooks = [m.register_forward_hook(lambda m, i, o, name=name: found[name].append(o.clone())) for name, m in layers.items()]
    try:
        classifier(x)
    finally:
        for h in hooks:
            h.remove()
    return found


def _by_image(seen: list[Tensor], again: list[Tensor], turned: Tensor) -> bool:
    """Whether outputs have one row an image, and the second ones are the first with the rows turned."""
    if len(seen) != len(again):
        return False
    for a, b in zip(seen, again, strict=True):
        if a.dim() < 2 or len(a) != len(turned) or a.shape != b.shape:
            return False
        a, b = a[turned].double(), b.double()
        if float((a - b).abs().max()) > ROUNDING * max(float(a.abs().max()), 1e-6):
            return False
    return True


def _mean(layer: nn.Module, out: Tensor) -> Tensor:
    """(N, C) means over everything but images and channels; channels come second, in a linear layer last."""
    if out.dim() <= 2:
        return out.clone()
    return out.flatten(1, -2).mean(1) if isinstance(layer, nn.Linear) else out.flatten(2).mean(2)


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
        features: (N, F) means of what each convolution, batch norm and linear layer gives, over the places of a map (N, C, H, W) and
            the tokens of a linear layer (N, T, C), (N, H, W, C); of the layers of :func:`choose_layers`, where it was asked.

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
        with torch.set_grad_enabled(x.requires_grad), _watching(self.classifier, "features" in wanted, len(x)) as means:
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
                self._parts["features"] = means().to(x.dtype)
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
    """Collect the means of each layer's output during one pass; the hooks are gone afterwards."""

    def __init__(self, module: nn.Module, wanted: bool, count: int) -> None:
        self.layers, self.count, self.seen = _layers(module) if wanted else [], count, list[Tensor]()
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Callable[[], Tensor]:
        self.hooks = [m.register_forward_hook(lambda m, i, o: self.seen.append(_mean(m, o))) for m in self.layers]
        return self.means

    def means(self) -> Tensor:
        """(N, F) all layers' means, in the order in which they were passed."""
        if not self.seen:
            raise UsageError("features are the means of convolutions, batch norms and linear layers; this classifier has none")
        if odd := {len(m) for m in self.seen} - {self.count}:
            raise UsageError(
                f"a layer of the classifier gives {min(odd)} rows for {self.count} images; choose_layers leaves such layers out"
            )
        return torch.cat(self.seen, 1)

    def __exit__(self, *exception: object) -> None:
        for hook in self.hooks:
            hook.remove()
