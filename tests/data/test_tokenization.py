"""Tokens on disk: the same as those computed, found by all they depend on, never trusted when damaged."""

import warnings

import numpy as np
import pytest

from edora import cache
from glue_harness.data import tokenization as tokens
from glue_harness.data.tokenization import tokenise_texts
from glue_harness.models.backbone import load_tokenizer

COLUMNS = [["one two three four", "five", "six seven", ""], ["a", "b c", "d e f g h i j k", "l"]]
LIMIT = 12


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDORA_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def tokenizer(build_config):
    return load_tokenizer(build_config("model=minilm").model)


@pytest.fixture
def computed(monkeypatch):
    """Return a list that gets longer whenever tokens are computed."""
    calls, compute = [], tokens._compute

    def count(*arguments):
        calls.append(arguments)
        return compute(*arguments)

    monkeypatch.setattr(tokens, "_compute", count)
    return calls


def check(found, tokenizer, columns=COLUMNS):
    """Compare with the tokenizer's own answers, a row at a time."""
    texts = list(zip(*columns, strict=True))
    wanted = [dict(tokenizer(*row, truncation=True, max_length=LIMIT)) for row in texts]
    assert [found.row(row) for row in range(len(texts))] == wanted
    cut = sum(len(tokenizer(*row)["input_ids"]) > LIMIT for row in texts)
    assert found.truncated_rows == cut == 1


def list_files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_tokens_are_computed_once_and_come_back_as_they_were(tokenizer, computed, folder):
    for _ in range(3):  # the later ones, too, whatever the earlier calls left in the tokenizer
        check(tokenise_texts(COLUMNS, tokenizer, LIMIT), tokenizer)
    assert len(computed) == 1
    assert [path.parent.name for path in list_files(folder)] == ["tokens"]


def test_without_a_cache_they_are_computed_every_time(tokenizer, computed, folder, monkeypatch):
    monkeypatch.setenv("EDORA_CACHE", cache.OFF)
    monkeypatch.chdir(folder)
    for _ in range(2):
        check(tokenise_texts(COLUMNS, tokenizer, LIMIT), tokenizer)
    assert len(computed) == 2
    assert not list_files(folder)


def test_any_difference_has_tokens_of_its_own(tokenizer, computed, monkeypatch):
    def expect(count, *arguments):
        tokenise_texts(*arguments)
        assert len(computed) == count

    expect(1, COLUMNS, tokenizer, LIMIT)
    expect(2, COLUMNS, tokenizer, LIMIT - 1)
    expect(3, [COLUMNS[0], COLUMNS[0]], tokenizer, LIMIT)
    expect(4, COLUMNS[:1], tokenizer, LIMIT)
    tokenizer.add_tokens(["threefour"])
    expect(5, COLUMNS, tokenizer, LIMIT)
    tokenizer.model_input_names = ["input_ids"]
    expect(6, COLUMNS, tokenizer, LIMIT)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "another")
    expect(7, COLUMNS, tokenizer, LIMIT)
    expect(7, COLUMNS, tokenizer, LIMIT)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:-1] + b"\xff"])
def test_damaged_tokens_are_computed_again_with_one_warning(tokenizer, computed, folder, damage):
    tokenise_texts(COLUMNS, tokenizer, LIMIT)
    (path,) = list_files(folder)
    path.write_bytes(damage(path.read_bytes()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(tokenise_texts(COLUMNS, tokenizer, LIMIT), tokenizer)
    assert [str(path) in str(warning.message) for warning in caught] == [True]
    check(tokenise_texts(COLUMNS, tokenizer, LIMIT), tokenizer)
    assert len(computed) == 2


def test_rows_are_selected_in_order(tokenizer):
    whole = tokenise_texts(COLUMNS, tokenizer, LIMIT)
    some = whole.select([2, 0])
    assert [some.row(0), some.row(1)] == [whole.row(2), whole.row(0)]
    np.testing.assert_array_equal(np.diff(some.bounds), np.diff(whole.bounds)[[2, 0]])
