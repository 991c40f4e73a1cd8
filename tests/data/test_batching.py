import math

import numpy as np
import pytest
from transformers import DataCollatorWithPadding

from glue_harness.data.batching import EpochBatches, ShareCollator, tokenise
from glue_harness.data.sources import load_split
from glue_harness.models.backbone import load_tokenizer


def test_truncated_rows_are_counted(build_config):
    config = build_config("task=rte")
    tokenizer = load_tokenizer(config.model)
    rows = load_split(config.data, config.task, "train")
    whole = tokenise(rows, config.task, tokenizer, 128)
    lengths = np.sort(whole.lengths)
    limit = int(lengths[len(lengths) // 2])
    cut = tokenise(rows, config.task, tokenizer, limit)
    assert whole.truncated_rows == 0
    assert cut.truncated_rows == int((whole.lengths > limit).sum()) > 0
    assert cut.lengths.max() == limit


LENGTHS = np.random.default_rng(0).integers(5, 60, size=1000)


def batches(**changes) -> EpochBatches:
    settings = {"lengths": LENGTHS, "batch_size": 32, "device_batch_size": 32, "seed": 1, "buckets": True}
    return EpochBatches(**settings | changes)


@pytest.mark.parametrize("buckets", [False, True])
def test_an_epoch_holds_every_row_once(buckets):
    sampler = batches(buckets=buckets)
    epoch = list(sampler)
    assert sorted(row for batch in epoch for row in batch) == list(range(1000))
    assert len(epoch) == len(sampler) == 32
    assert [len(batch) for batch in epoch] == [32] * 31 + [8]


def test_buckets_hold_rows_of_similar_length():
    def padded(sampler):
        return sum(LENGTHS[batch].max() * len(batch) for batch in sampler)

    assert padded(batches()) < 1.1 * LENGTHS.sum() < padded(batches(buckets=False))


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = set()
    for seed in (1, 2, 3):
        sampler = batches(seed=seed)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            orders.add(tuple(row for batch in sampler for row in batch))
    assert len(orders) == 9


@pytest.mark.parametrize(("micro", "processes"), [(8, 1), (4, 2), (8, 4), (16, 2), (5, 1), (5, 3), (1, 40)])
def test_layout_cuts_the_same_global_batches(micro, processes):
    whole = [sorted(batch) for batch in batches()]
    parts = [
        list(batches(device_batch_size=micro, process=rank, processes=processes)) for rank in range(processes)
    ]
    assert len({len(part) for part in parts}) == 1
    assert len(parts[0]) == len(batches(device_batch_size=micro, processes=processes))
    steps = math.ceil(32 / (micro * processes))
    seen = [
        sorted(row for part in parts for batch in part[i * steps : (i + 1) * steps] for row in batch)
        for i in range(len(whole))
    ]
    assert seen == whole
    assert max(len(batch) for part in parts for batch in part) <= micro


def test_a_share_without_rows_is_a_row_without_its_label(build_config):
    config = build_config("task=rte")
    tokenizer = load_tokenizer(config.model)
    split = tokenise(load_split(config.data, config.task, "train"), config.task, tokenizer, 64)
    collate = ShareCollator(DataCollatorWithPadding(tokenizer), stand_in=split[0])
    empty, two = collate([]), collate([split[1], split[2]])
    assert empty["labels"].shape == (0,)
    assert empty["input_ids"][0].tolist() == list(split[0]["input_ids"])
    assert two["labels"].tolist() == [split.labels[1], split.labels[2]]
    assert len(two["input_ids"]) == 2
