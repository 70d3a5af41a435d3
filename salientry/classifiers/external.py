"""A user's own network, brought to the package's conventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..learned import fingerprint
from ..preflight import no_logits, probabilities
from ._of_libraries import configured, processed


class External(nn.Module):
    """Your ``nn.Module`` as a classifier: images (N, C, H, W) in [0, 1] to logits (N, K). It is put into eval mode.

    Args:
        module: your network.
        mean: what your network's input is centred by, one number or one a channel, in your network's channel order.
        std: what it is divided by.
        channels: ``"RGB"`` or ``"BGR"``: the order your network expects; images come in RGB.
        output: key or index of the logits when your network gives a dict or a tuple. Without it a tuple's first entry,
            a dict's ``"logits"`` or only entry is taken.
        trust_output: skip the test that recognises probabilities. The test is made on the first images.
        size: (H, W) of the images that your network was made for; others are refused. None: any.

    A network with one output z, (N, 1) or (N,), is read as the log-odds of class 1 against class 0: its logits are -z / 2 and z / 2, so
    that each class has a gradient.
    The network's identity is the hash of its weights, its code reference (module and class) and this preprocessing.

    Raises:
        UsageError: for settings that cannot be meant; on the first batch, for outputs that are probabilities (softmax or
            sigmoid): attacks and margins need logits, and the logarithm of a float32 probability has lost them.

    Examples:
        >>> import torch
        >>> from salientry import External
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> External(net, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        channels: Literal["RGB", "BGR"] = "RGB",
        output: str | int | None = None,
        trust_output: bool = False,
        size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise UsageError(f"External wants an nn.Module; found {type(module).__name__}")
        if channels not in ("RGB", "BGR"):
            raise UsageError(f"channels must be 'RGB' or 'BGR'; found {channels!r}")
        self.module, self.channels, self.output = module, channels, output
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).reshape(1, -1, 1, 1))
        if not bool((self.std > 0).all()):
            raise UsageError(f"std must be above 0; found {std}")
        if float(max(self.mean.max(), self.std.max())) > 1:
            raise UsageError(
                f"mean and std are in units of [0, 1] images; found mean {mean} and std {std}, as for values from 0 to 255: divide both by "
                f"255, External(..., mean={_told(self.mean / 255)}, std={_told(self.std / 255)})"
            )
        if size is not None and not (len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
            raise UsageError(f"size must be (height, width), two whole numbers above 0; found {size!r}")
        self.size = None if size is None else (size[0], size[1])
        self.trust_output, self._checked = trust_output, trust_output
        self.eval()

    @classmethod
    def from_huggingface(cls, model: nn.Module, processor: Any, *, size: Sequence[int] | None = None) -> External:
        """A classifier of the library *transformers* with its image processor, which says mean, std, order of channels and size.

        Images come in the size that the processor would give; nothing is resized in here.

        Args:
            model: gives an object or a dict with ``logits``, or a tuple that begins with them.
            processor: its image processor, or a processor that has one.
            size: (H, W) of the images; default the processor's, where it names one.

        Raises:
            UsageError: for a processor that says nothing of these, or a model whose configuration names no classes.
        """
        return cls(model, **(processed(processor) | ({} if size is None else {"size": size})))

    @classmethod
    def from_timm(cls, model: nn.Module, *, size: Sequence[int] | None = None) -> External:
        """A classifier of the library *timm*; ``pretrained_cfg`` (or ``default_cfg``) says mean, std and size.

        Args:
            model: gives logits.
            size: (H, W) of the images; default the configuration's.

        Raises:
            UsageError: for a model without such a configuration, or without classes.
        """
        return cls(model, **(configured(model) | ({} if size is None else {"size": size})))

    @property
    def identity(self) -> dict[str, str | list[float]]:
        """Code reference and preprocessing; with the weights, the network's identity."""
        where = f"{type(self.module).__module__}:{type(self.module).__qualname__}"
        numbers = {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}
        return {"code": where, "channels": self.channels, "output": str(self.output), **numbers}

    @property
    def fingerprint(self) -> str:
        """Sha256 over weights, code reference and preprocessing."""
        return fingerprint(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, K), K >= 2."""
        if self.size is not None and tuple(x.shape[2:]) != self.size:
            (h, w), (height, width) = self.size, x.shape[2:]
            raise UsageError(
                f"the network was made for images of {h} x {w} pixels (height, width), these are {height} x {width}: bring pictures to "
                f"that size, as Folder(path, roles, size=({h}, {w}), resize='crop') does, or say size=({height}, {width}) if you mean it"
            )
        if self.mean.shape[1] not in (1, x.shape[1]) or self.std.shape[1] not in (1, x.shape[1]):
            raise UsageError(f"mean and std have {self.mean.shape[1]} and {self.std.shape[1]} channels, the images {x.shape[1]}")
        seen = ((x.flip(1) if self.channels == "BGR" else x) - self.mean.to(x.dtype)) / self.std.to(x.dtype)
        raw = self._logits(self.module(seen))
        one = raw.dim() == 1 or raw.shape[1:] == (1,)
        z = torch.stack([-raw.flatten() / 2, raw.flatten() / 2], 1) if one else raw
        if z.dim() != 2 or len(z) != len(x):
            raise UsageError(f"the network should give logits (N, K); it gave {tuple(z.shape)} for {len(x)} images")
        if not self._checked:
            self._refuse_probabilities(raw.detach(), one)
        return z

    def _logits(self, out: object) -> Tensor:
        if isinstance(out, Mapping):
            key = self.output if self.output is not None else "logits" if "logits" in out else next(iter(out)) if len(out) == 1 else None
            if key not in out:
                raise UsageError(
                    f"the network gives a dict with {', '.join(map(str, out))}; say which are the logits: External(..., output=...)"
                )
            out = out[key]
        elif isinstance(out, list | tuple):
            at = self.output if self.output is not None else 0
            if not isinstance(at, int) or not -len(out) <= at < len(out):
                raise UsageError(f"the network gives {len(out)} outputs; output={self.output!r} is none of them")
            out = out[at]
        elif self.output is not None:
            raise UsageError(f"the network gives one {type(out).__name__}; output={self.output!r} is for those that give a dict or a tuple")
        if not isinstance(out, Tensor):
            raise UsageError(f"the network should give a tensor of logits; it gave {type(out).__name__}")
        return out

    def _refuse_probabilities(self, z: Tensor, one_output: bool) -> None:
        """In each batch, until a value lies outside [0, 1]."""
        if kind := probabilities(z, one_output):
            raise UsageError(no_logits(kind))
        self._checked = bool(((z < 0) | (z > 1)).any())


def _told(values: Tensor) -> str:
    """Numbers as one would write them: one, or one a channel."""
    found = [f"{v:.4g}" for v in values.flatten().tolist()]
    return found[0] if len(found) == 1 else f"({', '.join(found)})"
