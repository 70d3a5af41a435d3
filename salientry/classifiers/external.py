"""A user's own network, brought to the package's conventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..contracts import fingerprint
from ..errors import UsageError

Output = Literal["auto", "logits"]


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

    A network with one output z, (N, 1) or (N,), is read as the log-odds of class 1 against class 0: its logits are -z / 2 and z / 2, so
    that each class has a gradient.
    The network's identity is the hash of its weights, its code reference (module and class) and this preprocessing.

    Raises:
        UsageError: for settings that cannot be meant; on the first batch, for outputs that are probabilities (softmax or
            sigmoid): attacks and margins need logits, and the logarithm of a float32 probability has lost them.

    Example:
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
        self._checked = trust_output
        self.eval()

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
        if self.mean.shape[1] not in (1, x.shape[1]) or self.std.shape[1] not in (1, x.shape[1]):
            raise UsageError(f"mean and std have {self.mean.shape[1]} and {self.std.shape[1]} channels, the images {x.shape[1]}")
        raw = self._logits(self.module(((x.flip(1) if self.channels == "BGR" else x) - self.mean.to(x.dtype)) / self.std.to(x.dtype)))
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
        """Softmax rows lie in [0, 1] and sum to 1; a sigmoid's lie in [0, 1] and a logit's do not, over a few images."""
        if not len(z):
            return  # no images prove nothing
        inside = bool(((z >= 0) & (z <= 1)).all())
        softmax = inside and not one_output and bool(((z.sum(1) - 1).abs() < 1e-3).all())
        sigmoid = inside and one_output and len(z) >= 4
        if softmax or sigmoid:
            kind = "softmax probabilities (rows in [0, 1] that sum to 1)" if softmax else "sigmoid probabilities (all in [0, 1])"
            raise UsageError(
                f"the network gives {kind}, and logits are needed: gradients of saturated probabilities vanish and margins are "
                "lost to rounding. Give the network without its last activation, or say External(..., trust_output=True)"
            )
        self._checked = not (inside and one_output)  # too few images to tell: look again at the next
