"""The paper's own networks; they are heads of detectors too, so they are written down below both."""

from __future__ import annotations

from ..paper_cnn import ASSIRA_NET, CIFAR10_NET, MNIST_NET, PaperCNN

__all__ = ["ASSIRA_NET", "CIFAR10_NET", "MNIST_NET", "PaperCNN"]
