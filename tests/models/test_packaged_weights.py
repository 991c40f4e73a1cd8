"""Weights that lie in several packages: joined once, whole or not at all. The slices are small, and made here."""

import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from glue_harness.config.schema import Model, Weights
from glue_harness.errors import InputError
from glue_harness.io import find_cache
from glue_harness.models import packaged_weights
from glue_harness.models.backbone import load_tokenizer, weights_sha256
from glue_harness.models.packaged_weights import locate_files

WEIGHTS = bytes(range(256)) * 40
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


def make_model(sha256=SHA256, revision="0.0.1"):
    weights = Weights(source="package", id="small-part", revision=revision, parts=3, sha256=sha256)
    return Model(name="small", weights=weights)


def write_packages(site, revision="0.0.1", compression=zipfile.ZIP_STORED):
    """Install three packages that hold the slices of a zip, as pip would."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", compression) as zipped:
        zipped.writestr("folder/model.safetensors", WEIGHTS)
        zipped.writestr("folder/config.json", "{}")
        zipped.writestr("folder/deeper/config.json", "not this one")
    content, length = archive.getvalue(), len(archive.getvalue()) // 3 + 1
    for part in (1, 2, 3):
        piece = content[(part - 1) * length : part * length]
        path = site / f"small-part_{part:03d}" / "input" / f"small.zip.{part:03d}"
        info = site / f"small_part_{part:03d}-{revision}.dist-info"
        for folder in (path.parent, info):
            folder.mkdir(parents=True)
        path.write_bytes(piece)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: small-part-{part:03d}\nVersion: {revision}\n"
        )
        (info / "RECORD").write_text(f"{path.relative_to(site)},sha256=x,{len(piece)}\n")


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """The folder of the installed slices; the cache lies in tmp_path/cache."""
    site = tmp_path / "site"
    write_packages(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packaged_weights.sum_weights.cache_clear()
    return site


def list_cache(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache" / "edora-glue").iterdir())


def test_slices_are_joined_once(packages, tmp_path):
    folder = locate_files(make_model())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "config.json").read_text() == "{}"
    assert weights_sha256(make_model()) == SHA256
    assert list_cache(tmp_path) == [folder.name, f"{folder.name}.lock"]
    shutil.rmtree(packages)
    assert locate_files(make_model()) == folder


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "no sums"])
def test_a_damaged_copy_is_made_again(packages, damage):
    folder = locate_files(make_model())
    if damage == "cut":
        (folder / "model.safetensors").write_bytes(WEIGHTS[:-1])
    elif damage == "flipped":
        (folder / "config.json").write_text("[]")
    else:
        (folder / ("config.json" if damage == "gone" else "sha256.json")).unlink()
    packaged_weights.sum_weights.cache_clear()
    assert locate_files(make_model()) == folder
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "config.json").read_text() == "{}"


def remove(site):
    shutil.rmtree(site / "small_part_002-0.0.1.dist-info")


def cut(site):
    path = site / "small-part_002" / "input" / "small.zip.002"
    path.write_bytes(path.read_bytes()[:-7])


def upgrade(site):
    shutil.rmtree(site)
    write_packages(site, "0.0.2")


def corrupt(site):
    path = site / "small-part_001" / "input" / "small.zip.001"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)


def corrupt_compressed(site):
    shutil.rmtree(site)
    write_packages(site, compression=zipfile.ZIP_DEFLATED)
    path = site / "small-part_001" / "input" / "small.zip.001"
    path.write_bytes(path.read_bytes()[:80] + b"\xff" * (len(path.read_bytes()) - 80))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove, "model=small: the package small-part-002 is missing; run make small"),
        (
            cut,
            r"model=small: \S+small.zip.002 must have [\d,]+ bytes \(found [\d,]+\); run pip install --no-deps --force-reinstall small-part-002==0.0.1",
        ),
        (
            upgrade,
            r"model=small: small-part-001 must be version 0.0.1 with its files \(found 0.0.2\); run make small",
        ),
        (corrupt, r"model=small: the packages small-part-… must hold the slices of one zip \(Bad CRC-32"),
        (
            corrupt_compressed,
            r"model=small: the packages small-part-… must hold the slices of one zip .*force-reinstall",
        ),
    ],
)
def test_slices_that_cannot_be_joined_are_one_line_and_leave_nothing(packages, tmp_path, spoil, message):
    spoil(packages)
    with pytest.raises(InputError, match=message) as caught:
        locate_files(make_model())
    assert "\n" not in str(caught.value)
    assert [name for name in list_cache(tmp_path) if not name.endswith(".lock")] == []


def test_joined_weights_that_are_not_the_pinned_ones_are_refused(packages, tmp_path):
    with pytest.raises(InputError, match=f"has {SHA256}; allowed is 0000"):
        locate_files(make_model(sha256="0000"))
    assert [name for name in list_cache(tmp_path) if not name.endswith(".lock")] == []


def test_a_full_disk_is_one_line_and_leaves_nothing(packages, tmp_path, monkeypatch):
    def fill(source, target):
        target.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packaged_weights.shutil, "copyfileobj", fill)
    with pytest.raises(
        InputError, match=r"must be a writable folder with 1 GB free .*No space left on device"
    ):
        locate_files(make_model())
    assert [name for name in list_cache(tmp_path) if not name.endswith(".lock")] == []


def test_processes_that_join_at_once_join_once(packages, tmp_path):
    """And what a process left behind that was killed while it joined is cleared away."""
    left = tmp_path / "cache" / "edora-glue" / f"{packaged_weights.PARTIAL}small-killed"
    left.mkdir(parents=True)
    (left / "joined.zip").write_bytes(b"half")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from glue_harness.models import packaged_weights as p\n"
        "from glue_harness.config.schema import Model, Weights\n"
        "whole, joins = p._join, []\n"
        "p._join = lambda *args: (joins.append(1), whole(*args))\n"
        f"weights = Weights(source='package', id='small-part', revision='0.0.1', parts=3, sha256='{SHA256}')\n"
        "p.locate_files(Model(name='small', weights=weights))\n"
        "print(len(joins))\n"
    )
    command = [sys.executable, "-c", code, str(packages)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sorted(process.communicate()[0] for process in processes) == ["0\n", "0\n", "1\n"]
    assert not left.exists()


MPNET = Path(find_cache(), "mpnet-78c0197b6159")


@pytest.mark.skipif(
    not MPNET.is_dir()
    and not any("all_mpnet" in path for path in map(str, Path(sys.prefix).glob("lib/*/site-packages/*"))),
    reason="needs the weights of MPNet: make mpnet",
)
def test_mpnet_is_the_pinned_file_with_its_own_vocabulary(build_config):
    model = build_config("model=mpnet").model
    assert weights_sha256(model) == "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
    pair = load_tokenizer(model)("Hello there", "a second one")["input_ids"]
    assert (pair[0], pair[-1], pair.count(2), len(load_tokenizer(model))) == (0, 2, 3, 30527)
