from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from salientry.contracts import ROLES, Roles
from salientry.datasets import DATASETS, Arrays
from salientry.errors import UsageError
from salientry.keys import canonical, digest
from salientry.protocol import deal

ROLES_ = Roles(4, 2, 2, 2, 2)


def images(n: int = 12) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, 3, 4, 6), np.uint8)


def labels(n: int = 12) -> NDArray[np.int64]:
    return np.arange(n) % 3


def test_what_goes_in_comes_out() -> None:
    (pool,) = Arrays(images(), labels(), ROLES_).read()
    assert np.array_equal(pool.images, images()) and np.array_equal(pool.labels, labels())
    assert pool.roles == ROLES
    _, role, _ = deal([pool], ROLES_)
    assert np.bincount(role).tolist() == [4, 2, 2, 2, 2]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_labels_of_any_integers_become_int64(dtype: type) -> None:
    (pool,) = Arrays(images(), labels().astype(dtype), ROLES_).read()
    assert pool.labels.dtype == np.int64 and np.array_equal(pool.labels, labels())


def test_the_key_is_that_of_the_content() -> None:
    first = Arrays(images(), labels(), ROLES_)
    assert digest(first) == digest(Arrays(images(), labels(), ROLES_))
    assert canonical(first) == first.fingerprint and len(first.fingerprint) == 64
    assert first.fingerprint == Arrays(np.asfortranarray(images()), labels().astype(np.int32), ROLES_).fingerprint
    for at in (0, 5, -1):
        pixel, label = images(), labels()
        pixel.reshape(-1)[at] ^= 1
        label[at] = 3
        assert Arrays(pixel, labels(), ROLES_).fingerprint != first.fingerprint
        assert Arrays(images(), label, ROLES_).fingerprint != first.fingerprint


def test_order_roles_and_shape_are_content_too() -> None:
    order = np.arange(12)[::-1]
    different = [
        Arrays(images(), labels(), ROLES_),
        Arrays(images()[order], labels()[order], ROLES_),
        Arrays(images(), labels(), replace(ROLES_, test=1)),
        Arrays(images()[:11], labels()[:11], ROLES_),
        Arrays(images().reshape(12, 3, 6, 4), labels(), ROLES_),
        Arrays(images().reshape(12, 1, 12, 6), labels(), ROLES_),
    ]
    assert len({digest(d) for d in different}) == len(different)


@pytest.mark.parametrize(
    "found",
    [images().astype(np.float32), images().astype(np.int16), images()[0], images()[..., 0], images()[None], images() > 100],
)
def test_other_images_are_refused_with_what_was_found(found: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError, match=r"uint8 of shape \(N, C, H, W\); found") as e:
        Arrays(found, labels(), ROLES_)
    assert f"{found.dtype} {found.shape}" in str(e.value)


@pytest.mark.parametrize("found", [labels(11), labels()[:, None], labels().astype(float), labels() > 1, labels().astype(str)])
def test_other_labels_are_refused_with_what_was_found(found: NDArray[np.int64]) -> None:
    with pytest.raises(UsageError, match=r"integers of shape \(12,\); found") as e:
        Arrays(images(), found, ROLES_)
    assert f"{found.dtype} {found.shape}" in str(e.value)


def test_labels_below_zero_are_refused() -> None:
    with pytest.raises(UsageError, match="from 0"):
        Arrays(images(), labels() - 1, ROLES_)


def test_they_are_not_in_the_dict_of_data_sets() -> None:
    assert Arrays not in DATASETS.values(), "a recipe on the command line has no arrays to give"
