"""The cache on disk: shared by processes, never trusted when damaged, never the reason that a run fails."""

import multiprocessing
import os
import threading
import warnings

import pytest
import torch

from edora import cache

TENSORS = {"left": torch.arange(6.0).view(2, 3), "values": torch.tensor([2.0, 1.0])}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDORA_CACHE", str(tmp_path / "cache"))
    cache._warn_once.cache_clear()
    return tmp_path / "cache"


def list_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def is_equal(tensors):
    return tensors.keys() == TENSORS.keys() and all(
        torch.equal(tensors[name], TENSORS[name]) for name in TENSORS
    )


def test_the_folder_is_the_user_s_choice_or_the_platform_s(monkeypatch, tmp_path):
    assert cache.find_folder() == tmp_path / "cache"
    monkeypatch.setenv("EDORA_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.find_folder() == tmp_path / "xdg" / "edora"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.find_folder() == tmp_path / "home" / ".cache" / "edora"


def test_off_means_that_nothing_is_kept(monkeypatch, tmp_path):
    cache.write_tensors("key", TENSORS)
    monkeypatch.setenv("EDORA_CACHE", cache.OFF)
    monkeypatch.chdir(tmp_path)
    before = list_files(tmp_path)
    assert cache.read_tensors("key") is None
    cache.write_tensors("other", TENSORS)
    assert list_files(tmp_path) == before


def test_kinds_have_folders_of_their_own(folder):
    cache.write_tensors("key", TENSORS, "tokens")
    assert cache.read_tensors("key") is None
    assert is_equal(cache.read_tensors("key", "tokens"))
    assert [path.parent.name for path in list_files(folder)] == ["tokens"]


def test_what_was_written_comes_back_under_its_own_key_only(folder):
    assert cache.read_tensors("key") is None
    cache.write_tensors("key", TENSORS)
    assert is_equal(cache.read_tensors("key"))
    assert cache.read_tensors("other") is None
    assert len(list_files(folder)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data + b"\0",
        lambda data: bytes(len(data)),
    ],
)
def test_a_damaged_file_is_removed_with_a_warning(folder, damage):
    cache.write_tensors("key", TENSORS)
    (path,) = list_files(folder)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"key\.safetensors is damaged"):
        assert cache.read_tensors("key") is None
    assert not path.exists()
    cache.write_tensors("key", TENSORS)
    assert is_equal(cache.read_tensors("key"))


def test_what_is_read_is_the_file_itself_mapped_into_memory(folder):
    cache.write_tensors(
        "key", {"large": torch.arange(2**20), "scalar": torch.tensor(3), "empty": torch.empty(0)}
    )
    (path,) = list_files(folder)
    tensors = cache.read_tensors("key")
    with open("/proc/self/maps") as maps:
        (begin, end) = next(line.split()[0].split("-") for line in maps if line.rstrip().endswith(str(path)))
    assert int(begin, 16) <= tensors["large"].data_ptr() < int(end, 16)
    tensors["large"][0] = 7  # a process's own copy of that page
    assert cache.read_tensors("key")["large"][0] == 0
    assert tensors["scalar"] == 3
    assert tensors["empty"].shape == (0,)
    path.unlink()
    assert tensors["large"].sum() == 7 + sum(range(2**20))


def test_a_file_under_another_name_is_not_trusted(folder):
    cache.write_tensors("key", TENSORS)
    (path,) = list_files(folder)
    path.rename(path.with_name("other.safetensors"))
    with pytest.warns(UserWarning, match="damaged"):
        assert cache.read_tensors("other") is None


def test_a_folder_that_cannot_be_written_warns_once(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDORA_CACHE", str(tmp_path / "file"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for key in ("one", "two", "three"):
            cache.write_tensors(key, TENSORS)
            assert cache.read_tensors(key) is None
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert "cannot be written" in messages[0]
    assert "cannot be read" in messages[1]
    assert all(str(tmp_path / "file") in message for message in messages)


def test_a_full_disk_warns_once_and_leaves_nothing(folder, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.warns(UserWarning, match="No space left on device"):
        cache.write_tensors("one", TENSORS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.write_tensors("two", TENSORS)
    assert not list_files(folder)


def test_without_a_home_folder_it_goes_on(monkeypatch):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("EDORA_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cache.Path, "home", fail)
    with pytest.warns(UserWarning, match="home directory"):
        cache.write_tensors("key", TENSORS)
    with pytest.warns(UserWarning, match="home directory"):
        assert cache.read_tensors("key") is None


def test_a_write_that_is_interrupted_leaves_the_old_file(folder, monkeypatch):
    cache.write_tensors("key", TENSORS)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.write_tensors("key", {"left": torch.zeros(1)})
    assert is_equal(cache.read_tensors("key"))
    assert len(list_files(folder)) == 1


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_others_may_have_mapped_stays_where_it_is(folder, monkeypatch, has_links):
    def refuse(*_):
        raise PermissionError("no hard links here")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    cache.write_tensors("key", TENSORS, keeps_earlier=True)
    (first,) = list_files(folder)
    inode = first.stat().st_ino
    cache.write_tensors("key", TENSORS, keeps_earlier=True)
    assert (first.stat().st_ino == inode) == has_links
    assert is_equal(cache.read_tensors("key"))
    assert list_files(folder) == [first]


def hammer(barrier, folder, faults):
    os.environ["EDORA_CACHE"] = folder
    large = {"left": torch.ones(500, 400)}
    barrier.wait()
    for round_number in range(40):
        cache.write_tensors("key", large)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                found = cache.read_tensors("key")
                if found is None or not torch.equal(found["left"], large["left"]):
                    faults.put(round_number)
            except UserWarning as warning:
                faults.put(str(warning))


def test_processes_that_write_and_read_at_once_never_see_half_a_file(folder):
    context = multiprocessing.get_context("fork")
    barrier, faults = context.Barrier(4), context.SimpleQueue()
    processes = [context.Process(target=hammer, args=(barrier, str(folder), faults)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * 4
    assert faults.empty()
    assert [path.name for path in list_files(folder)] == ["key.safetensors"]


def test_threads_share_it_too():
    threads = [threading.Thread(target=cache.write_tensors, args=("key", TENSORS)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_equal(cache.read_tensors("key"))
