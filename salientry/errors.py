"""Every error that Salientry raises on purpose, and the exit code that the command line gives it.

::

    Error                      1   something that the run found and that must not pass silently
    ├── GateFailed             1   a sanity gate of a trained part; what stands on it is skipped
    ├── AttackTooWeak          1   an attack that hardly fools the classifier: nothing can be learnt from it
    ├── VerificationFailed     1   a report whose numbers do not follow from its records
    ├── UsageError             2   a name, a setting or a value that cannot be used   (also a ValueError)
    │   └── WrongClassifier    2   a guard met a classifier that it was not fitted for
    ├── DataError              3   a file that cannot be used
    │   ├── DataMissing        3   ... because it is not there
    │   └── DataDamaged        3   ... because its content is not what it should be
    ├── StoreError             4   results cannot be written or read back (folder, permission, disk full)
    └── DeviceError            5   the device that was asked for is not here

A defect of ours leaves with 70, an interrupt with 130. ``salientry check`` has codes of its own: 0 clean, 1 flagged, 2 any error.
An ``assert`` in this package states an invariant of ours; it is never a message for a user.
"""

from __future__ import annotations


class Error(Exception):
    """Root of the tree. ``exit_code`` is what the command line leaves with."""

    exit_code = 1


class GateFailed(Error):
    """A trained part did not pass its sanity gate. The message names each figure and its bound."""


class AttackTooWeak(Error):
    """An attack fools too few images to judge a detector by. The message has the share, the number of images and the bound."""


class VerificationFailed(Error):
    """A report's printed numbers do not follow from its score records, or a mandatory control is missing."""


class UsageError(Error, ValueError):
    """A name, setting or value that cannot be used: the message says what was found and what was expected."""

    exit_code = 2


class WrongClassifier(UsageError):
    """A guard was given a classifier that it was not fitted for."""


class DataError(Error):
    """A data file cannot be used."""

    exit_code = 3


class DataMissing(DataError):
    """A data set is not here. The message says what to get and where it goes."""


class DataDamaged(DataError):
    """A file is here, but its content is not what its name or checksum promises."""


class StoreError(Error):
    """Results cannot be written or read back. What was complete before is still there."""

    exit_code = 4


class DeviceError(Error):
    """The device that was asked for is not here."""

    exit_code = 5
