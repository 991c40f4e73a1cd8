import itertools

import numpy as np

from glue_harness.seeding import STREAMS, derive_seed, epoch_generator


def test_streams_and_seeds_are_all_different():
    derived = [derive_seed(seed, stream) for seed in range(50) for stream in STREAMS]
    derived += [derive_seed(seed, "dropout", process) for seed in range(50) for process in range(1, 8)]
    assert len(set(derived)) == len(derived)
    assert all(0 <= value < 2**32 for value in derived)


def test_the_first_process_draws_what_a_process_alone_does():
    assert derive_seed(3, "dropout", process=0) == derive_seed(3, "dropout")


def test_seed_zero_is_a_seed_like_any_other():
    assert derive_seed(0, "head") == derive_seed(0, "head")
    assert derive_seed(0, "head") != derive_seed(1, "head")


def test_no_two_seeds_share_an_epochs_order():
    """A seed plus an epoch would: seed 2's epoch 1 is then seed 1's epoch 2."""
    orders = {
        (seed, epoch): tuple(epoch_generator(seed, epoch).permutation(100))
        for seed, epoch in itertools.product(range(5), range(5))
    }
    assert len(set(orders.values())) == 25


def test_an_order_depends_on_seed_and_epoch_alone():
    first = epoch_generator(3, 4).permutation(50)
    np.random.seed(0)
    np.testing.assert_array_equal(first, epoch_generator(3, 4).permutation(50))
