from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare, kstest

from salientry.randomness import image_ids, image_seeds, uniform
from salientry.types import Shape

SHAPE = Shape(1, 8, 8, 3)

# --- identity ----------------------------------------------------------------------------------------------------


def pixels(n: int = 6, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 4, 5), np.uint8)


def test_an_id_is_the_hash_of_the_pixels() -> None:
    images = pixels()
    ids = image_ids(images)
    assert ids.dtype == "<U16" and ids.shape == (6,)
    assert ids.tolist() == [hashlib.sha256(bytes(i.ravel().tolist())).hexdigest()[:16] for i in images]


def test_an_id_depends_on_the_pixels_alone() -> None:
    images = pixels()
    ids = image_ids(images)
    order = np.array([3, 0, 5, 1, 4, 2])
    assert image_ids(images[order]).tolist() == ids[order].tolist()
    assert image_ids(images[2:3]).tolist() == ids[2:3].tolist()
    strided = np.asfortranarray(np.concatenate([images, images])[::2])
    assert image_ids(strided).tolist() == np.concatenate([ids, ids])[::2].tolist()
    assert image_ids(images[:0]).shape == (0,)
    for at in np.ndindex(images[0].shape):
        other = images[:1].copy()
        other[0][at] ^= 1
        assert image_ids(other)[0] != ids[0]


def test_seeds_depend_on_id_seed_and_stream_and_on_nothing_else() -> None:
    ids = image_ids(pixels())
    first = image_seeds(ids, 0, 1)
    assert first.dtype == torch.int64
    truth = [int.from_bytes(hashlib.sha256(f"0/1/{i}".encode()).digest()[:8], "little", signed=True) for i in ids]
    assert first.tolist() == truth
    assert image_seeds(ids[::-1], 0, 1).tolist() == truth[::-1]
    assert image_seeds(ids[2:4], 0, 1).tolist() == truth[2:4]
    both = np.concatenate([ids, ids])
    assert image_seeds(both, 0, 1).tolist() == truth * 2
    seen = torch.cat([image_seeds(ids, s, k) for s in (0, 1, 11) for k in (1, 2, 12)])
    assert len(seen.unique()) == 6 * 9
    assert image_seeds(np.array(["00ff00ff00ff00ff"]), 3, 1).tolist() == [-3201775213401936245]
    assert image_seeds(ids[:0], 0, 1).shape == (0,)


# --- randomness --------------------------------------------------------------------------------------------------


def splitmix64(seed: int, n: int) -> list[int]:
    """Steele, Lea, Flood (2014), in whole numbers."""
    out, mask = [], (1 << 64) - 1
    for i in range(1, n + 1):
        z = (seed + i * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append(z ^ (z >> 31))
    return out


def test_uniform_is_splitmix64() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert splitmix64(1234567, 5) == published
    assert uniform(torch.tensor([1234567]), (5,))[0].tolist() == [(v >> 40) / 2**24 for v in published]


def test_the_first_values_are_frozen() -> None:
    found = (uniform(torch.tensor([0, 1, -1, 2**63 - 1, -(2**63)]), (3,)) * 2**24).to(torch.int64)
    assert found.tolist() == [
        [14819496, 7239838, 443485],
        [9505325, 12512141, 16290722],
        [14997873, 15310840, 3682296],
        [2779095, 15862785, 15472019],
        [4726464, 12873638, 6399621],
    ]


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_seed_gives_what_whole_numbers_give(seed: int) -> None:
    found = uniform(torch.tensor([seed]), (2, 3))
    assert found.dtype == torch.float32 and found.shape == (1, 2, 3)
    assert found.flatten().tolist() == [(v >> 40) / 2**24 for v in splitmix64(seed % 2**64, 6)]
    assert bool(((found >= 0) & (found < 1)).all())


def test_a_row_depends_on_its_seed_alone() -> None:
    seeds = image_seeds(image_ids(pixels(20)), 0, 1)
    whole = uniform(seeds, (3, 4, 5))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniform(seeds[order], (3, 4, 5)), whole[order])
    for size in (1, 7, 20):
        assert torch.equal(torch.cat([uniform(s, (3, 4, 5)) for s in seeds.split(size)]), whole)
    torch.manual_seed(1)
    assert torch.equal(uniform(seeds, (3, 4, 5)), whole), "the global generator is not asked"
    assert torch.equal(uniform(seeds, (60,)), whole.flatten(1)), "a shape is a way to lay them out"
    assert torch.equal(uniform(seeds, (5,)), whole.flatten(1)[:, :5]), "fewer values are the first ones"
    assert uniform(seeds[:0], (2, 2)).shape == (0, 2, 2)


SEEDS = {
    "consecutive": torch.arange(2000),
    "shifted": torch.arange(2000) << 32,
    "negative": -torch.arange(1, 2001) * 1_000_003,
    "hashed": image_seeds(image_ids(pixels(2000)), 0, 1),
}


@pytest.mark.parametrize("name", SEEDS)
def test_values_are_uniform(name: str) -> None:
    u = uniform(SEEDS[name], (50,)).double().numpy()
    assert kstest(u.ravel(), "uniform").pvalue > 1e-3
    assert chisquare(np.bincount((u.ravel() * 256).astype(int), minlength=256)).pvalue > 1e-3
    low = (u.ravel() * 2**24).astype(int) % 256
    assert chisquare(np.bincount(low, minlength=256)).pvalue > 1e-3, "the low bits too"
    for column in (0, 1, 49):
        assert kstest(u[:, column], "uniform").pvalue > 1e-4
    assert kstest(u[7], "uniform").pvalue > 1e-4


@pytest.mark.parametrize("name", SEEDS)
def test_neighbours_have_nothing_to_do_with_each_other(name: str) -> None:
    u = uniform(SEEDS[name], (50,)).double().numpy()
    for a, b in ((u[:-1], u[1:]), (u[:, :-1], u[:, 1:]), (u[:-1, :-1], u[1:, 1:]), (u[:-1, 1:], u[1:, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)
        pairs = (a.ravel() * 8).astype(int) * 8 + (b.ravel() * 8).astype(int)
        assert chisquare(np.bincount(pairs, minlength=64)).pvalue > 1e-3
    assert len(np.unique(u, axis=0)) == 2000
