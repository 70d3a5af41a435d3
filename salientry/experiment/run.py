"""A run of experiments: :class:`salientry.runner.run.Run` on data sets and around classifiers."""

from __future__ import annotations

from typing import Any

from ..runner import run
from ..runner.step import Handle
from .steps import read_data


class Run(run.Run):
    """A store and an engine, as :class:`salientry.runner.run.Run`.

    Args:
        store: folder of the results; default ``SALIENTRY_HOME``, or the user's cache folder.
        seed: run seed: everything that is drawn or learned depends on it, the split into training and test images does not.
        device: where tensors live: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        numerics: ``"float32"``: one thread a step, the same to the last bit however it was reached. ``"threads"``: long trainings
            (classifier, encoder, saliency model) use the cores on which nothing else can run; what they give differs by rounding, and
            has other keys.

    Raises:
        UsageError: for an unknown numerics mode or a negative seed.
        DeviceError: when the device is not here.
        StoreError: when the store cannot be written.

    Examples:
        >>> import tempfile
        >>> from salientry import DATASETS, CLASSIFIERS, Run
        >>> from salientry.experiment.steps import train_classifier
        >>> run = Run(tempfile.mkdtemp())
        >>> digits = run.dataset(DATASETS["digits"]())
        >>> run.do(train_classifier, digits["train"], CLASSIFIERS["compact"]()).slug
        'CompactCNN'
    """

    given_as = "the classifier"

    def dataset(self, settings: Any) -> Handle:
        """A data set as rows; ``handle["train"]``, ``handle["test"]`` ... are the rows of a role."""
        return self.do(read_data, settings)
