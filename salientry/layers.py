"""What the layers of a classifier give, pooled: one row an image, whatever the layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .errors import UsageError
from .inputs import plainly
from .learned import device_of
from .randomness import uniform

LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)  # whose means are features
CHANNELS_LAST = (nn.Linear, nn.LayerNorm)
TOGETHER = 2**14  # values of an output up to which those of one shape are pooled together
MOST = 300  # characters of a list of layers
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


class Pooled(NamedTuple):
    """What a layer gives, over the places of a map (N, C, H, W) or the tokens (N, T, C) of a batch, (N, C) each.

    Attributes:
        mean: of the places; of a layer without any its values.
        deviation: standard deviation over the places (population form); 0 of a layer without any.
        maximum: of the places.
    """

    mean: Tensor
    deviation: Tensor
    maximum: Tensor


def usual_layers(classifier: nn.Module) -> list[str]:
    """Names of the layers whose means are ``features``: every convolution, batch norm and linear layer, or those that were chosen."""
    chosen = vars(classifier).get("layers")
    return [n for n, m in classifier.named_modules() if isinstance(m, LAYERS) and (chosen is None or n in chosen)]


def pooled(layer: nn.Module, out: Tensor) -> Tensor:
    """(N, 3, C) the three of :class:`Pooled`, of one output of a layer."""
    if out.dim() <= 2:
        flat = out.flatten(1) if out.dim() == 2 else out[:, None]
        return torch.stack([flat, torch.zeros_like(flat), flat], 1)
    over = 1 if _channels_last(layer, out) else 2
    places = out.flatten(1, -2) if over == 1 else out.flatten(2)  # (N, places, C) or (N, C, places)
    if not out.shape[0]:
        return places.new_zeros(0, 3, places.shape[3 - over])
    mean = places.mean(over, keepdim=True)
    away = places - mean
    variance = (away * away).mean(over)  # many times as fast as torch.var_mean on a CPU
    return torch.stack([mean.squeeze(over), variance.clamp_min(1e-12).sqrt(), _largest(out, places, over)], 1)  # a root has no slope at 0


def _channels_last(layer: nn.Module, out: Tensor) -> bool:
    """Whether an output's channels are its last dimension."""
    return isinstance(layer, CHANNELS_LAST) or (out.dim() == 3 and not isinstance(layer, nn.Conv1d | nn.BatchNorm1d))


def _largest(out: Tensor, places: Tensor, over: int) -> Tensor:
    """(N, C) the maximum over the places; of a map that lies in memory place by place row by row first, which is faster."""
    if over == 1 or out.dim() != 4 or out.requires_grad or torch.compiler.is_exporting():
        return places.amax(over)
    if out.is_contiguous() or not out.is_contiguous(memory_format=torch.channels_last):
        return places.amax(over)
    n, channels, _, width = out.shape
    return out.permute(0, 2, 3, 1).flatten(2).amax(1).view(n, width, channels).amax(1)


class Watching:
    """Collect what layers give during one pass; the hooks are gone afterwards.

    Args:
        module: the classifier.
        means: whether the means of all usual layers are wanted (``features``).
        names: of the modules whose activations are wanted, as in ``named_modules``; a block of layers is one too.
        count: of the images.
        first: how many of them are wanted, from the start; None: all.

    Raises:
        UsageError: for a name that no module has.
    """

    def __init__(self, module: nn.Module, means: bool, names: Collection[str], count: int, first: int | None = None) -> None:
        self.layers, self.count, self.first, self.seen = _layers(module) if means else [], count, first, list[Tensor]()
        self.rows: list[int] = []
        self.found: dict[str, list[Tensor]] = defaultdict(list)
        self.waiting: dict[Any, list[tuple[str, int, nn.Module, Tensor]]] = defaultdict(list)
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []
        modules = dict(module.named_modules()) if names else {}
        if missing := sorted(set(names) - set(modules)):
            known = ", ".join(n for n in modules if n)
            raise UsageError(
                f"the classifier has no layer {missing[0]!r}; there are: {known[:MOST] + ' ...' if len(known) > MOST else known}"
            )
        self.named = {n: modules[n] for n in names}

    def __enter__(self) -> Watching:
        self.hooks = [m.register_forward_hook(lambda m, i, o: self._note(m, o)) for m in self.layers]
        self.hooks += [m.register_forward_hook(lambda m, i, o, n=n: self._keep(n, m, self._row(n, o))) for n, m in self.named.items()]
        return self

    def _note(self, layer: nn.Module, out: Tensor) -> None:
        self.rows.append(out.shape[0])
        self.seen.append(_mean(layer, out[: self.first]))

    def _row(self, name: str, out: Any) -> Tensor:
        first = out[0] if isinstance(out, list | tuple) else out
        if not isinstance(first, Tensor) or first.dim() < 1 or first.shape[0] != self.count:
            found = f"shape {tuple(first.shape)}" if isinstance(first, Tensor) else f"a {type(out).__name__}"
            raise UsageError(f"layer {name!r} gives {found} for {self.count} images; activations need one row an image")
        return first[: self.first]

    def _keep(self, name: str, layer: nn.Module, out: Tensor) -> None:
        """Pool an output; of a small one keep a copy, for others may write into it, until those of its shape are pooled together."""
        if out.dim() < 3 or torch.compiler.is_exporting() or not 0 < out.numel() <= TOGETHER:
            self.found[name].append(pooled(layer, out))
            return
        kind = _channels_last(layer, out), out.shape, out.stride(), out.dtype, out.device
        self.waiting[kind].append((name, len(self.found[name]), layer, out.clone()))
        self.found[name].append(out)  # its place

    def means(self) -> Tensor:
        """(N, F) all layers' means of the images that are wanted, in the order in which they were passed."""
        if not self.seen:
            raise UsageError("features are the means of convolutions, batch norms and linear layers; this classifier has none")
        if odd := [n for n in self.rows if n != self.count]:
            raise UsageError(
                f"a layer of the classifier gives {min(odd)} rows for {self.count} images; choose_layers leaves such layers out"
            )
        return torch.cat(self.seen, 1)

    def activations(self) -> dict[str, Tensor]:
        """Each named layer's activations (N, 3, C) where it was passed; of one that was passed more than once call by call, along C."""
        for group in self.waiting.values():
            rows = pooled(group[0][2], torch.cat([out for *_, out in group]))
            for (name, call, *_), row in zip(group, torch.split(rows, len(rows) // len(group)), strict=True):
                self.found[name][call] = row
        self.waiting.clear()
        return {n: torch.cat(self.found[n], 2) for n in self.named if n in self.found}

    def __exit__(self, *exception: object) -> None:
        for hook in self.hooks:
            hook.remove()
