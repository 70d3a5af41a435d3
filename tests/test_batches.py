from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from salientry.batches import DEVICE, Batch, RowImages
from salientry.randomness import image_ids, image_seeds
from salientry.rows import Rows
from salientry.types import Shape, shape_of

SHAPE = Shape(1, 8, 8, 3)


def pixels(n: int = 6, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 4, 5), np.uint8)


# --- batches of rows ---------------------------------------------------------------------------------------------


def some_rows() -> Rows:
    columns = {"image": pixels(), "label": np.arange(6), "right": np.arange(6) % 2 == 0, "logits": np.arange(12.0).reshape(6, 2)}
    return Rows(image_ids(pixels()), columns, {"role": "test"})


def test_a_batch_gives_floats_in_0_1_whatever_the_storage() -> None:
    rows, at = some_rows(), np.array([4, 0, 4])
    batch = Batch(rows, at)
    assert batch.image.dtype == torch.float32
    np.testing.assert_array_equal(batch.image.numpy(), pixels()[at].astype(np.float32) / np.float32(255))
    assert torch.equal((batch.image * 255).round().to(torch.uint8), torch.from_numpy(pixels()[at])), "and 8 bits come back"
    assert float(Batch(Rows(rows.ids, {"image": np.array([[0], [255]] * 3, np.uint8)}), np.arange(2)).image.max()) == 1
    floats = rows.widen({"image": pixels().astype(np.float32) / 512}, {})
    assert torch.equal(Batch(floats, at).image, torch.from_numpy(pixels()[at].astype(np.float32) / 512))


def test_a_batch_gives_other_columns_as_they_are() -> None:
    rows, at = some_rows(), np.array([4, 0, 4])
    batch = Batch(rows, at)
    assert len(batch) == 3 and batch.ids.tolist() == rows.ids[at].tolist() and batch.facts == {"role": "test"}
    assert batch.label.dtype == torch.int64 and batch.label.tolist() == [4, 0, 4]
    assert batch.right.dtype == torch.bool and batch.logits.dtype == torch.float64
    assert "label" in batch and "map" not in batch
    assert set(batch.parts("label", "map", "logits")) == {"label", "logits"}
    with pytest.raises(AttributeError, match="no column 'map'; there are image, label"):
        batch.map  # noqa: B018
    assert not hasattr(batch, "map") and not hasattr(batch, "_private")
    batch.label[:] = 9
    assert Batch(rows, at).label.tolist() == [4, 0, 4]
    assert torch.equal(batch.seeds(3, 2), image_seeds(rows.ids[at], 3, 2))


def test_a_batch_comes_to_the_device_that_is_set() -> None:
    token = DEVICE.set("meta")
    try:
        batch = Batch(some_rows(), np.arange(2))
    finally:
        DEVICE.reset(token)
    assert batch.label.device.type == "meta" and batch.seeds(0, 1).device.type == "meta"
    assert Batch(some_rows(), np.arange(2)).image.device.type == "cpu"


def test_rows_are_images() -> None:
    rows = some_rows()
    images = RowImages(rows)
    assert len(images) == 6
    assert torch.equal(images[torch.tensor([5, 1])], Batch(rows, np.array([5, 1])).image)
    assert shape_of(images, 7) == Shape(3, 4, 5, 7) == shape_of(torch.rand(2, 3, 4, 5), 7)
