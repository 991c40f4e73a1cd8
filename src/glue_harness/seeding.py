"""One seed, independent streams: head, adapter, dropout, data order; and the rows that are held out."""

from __future__ import annotations

import numpy as np

STREAMS = ("head", "adapter", "dropout", "holdout")


def derive_seed(seed: int, stream: str, process: int = 0) -> int:
    """Return the 32-bit seed of one of `STREAMS` for a run's `seed`; streams and seeds are independent.

    So are the processes that share a run; the first draws what a process alone would.
    """
    key = (STREAMS.index(stream), process) if process else (STREAMS.index(stream),)
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    return int(sequence.generate_state(1, np.uint32)[0])


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator that orders the data of one epoch (0, 1, …).

    It depends on [seed, epoch] as a whole, so no two seeds share an epoch's order, as they do when an
    epoch is added to a seed.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))


def holdout_generator() -> np.random.Generator:
    """Return the generator that chooses held-out rows: always the same, whatever a run's seed is."""
    return np.random.Generator(np.random.PCG64(derive_seed(0, "holdout")))
