"""Small datasets with every kind of end, for the tests of what reads and writes them."""

import numpy as np

from jaxrl.data.recorded import Recorded, describe


def toy(lengths=(3, 1, 4), terminated=(2, 3), truncated=(3, 7), seed=0, **about) -> Recorded:
    """Episodes of random numbers: one terminates, one does both at once, one is cut."""
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    ends = {name: np.zeros(rows, np.bool_) for name in ("terminated", "truncated")}
    ends["terminated"][list(terminated)] = True
    ends["truncated"][list(truncated)] = True
    return Recorded(
        observation=rng.normal(size=(rows, 2)).astype(np.float32),
        action=rng.uniform(-1, 1, size=(rows, 3)).astype(np.float32),
        reward=rng.normal(size=rows).astype(np.float32),
        final_observation=rng.normal(size=(len(lengths), 2)).astype(np.float32),
        length=np.asarray(lengths, np.int32),
        about=describe("toy", "random numbers", **about),
        **ends,
    )


def maze() -> Recorded:
    """A recorder that went on after the goal: a termination inside of an episode."""
    return toy((4, 2), terminated=(1, 4), truncated=(3, 5), reference_scores=(-3.0, 2.0))


def discrete() -> Recorded:
    """Images and whole numbers."""
    rng = np.random.default_rng(1)
    return Recorded(
        observation=rng.integers(0, 256, (4, 5, 5, 1)).astype(np.uint8),
        action=np.asarray([0, 2, 1, 3], np.int32),
        reward=np.asarray([0, 1, 0, -1], np.float32),
        terminated=np.asarray([False, True, False, False]),
        truncated=np.asarray([False, False, False, True]),
        final_observation=rng.integers(0, 256, (2, 5, 5, 1)).astype(np.uint8),
        length=np.asarray([2, 2], np.int32),
        about=describe("discrete", "random numbers", environment="nothing that is there"),
    )


def assert_same(found: Recorded, expected: Recorded) -> None:
    """Equal to the last bit, in types and in what they say of themselves."""
    for name, array in vars(expected).items():
        if name == "about":
            assert found.about == array
            continue
        got = getattr(found, name)
        assert (got.dtype, got.shape) == (array.dtype, array.shape), name
        assert got.tobytes() == np.ascontiguousarray(array).tobytes(), name
