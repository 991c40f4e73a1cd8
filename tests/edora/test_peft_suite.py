"""PEFT's own tests, run on EDoRA. They are fetched from the package index, not kept here."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LEAST_PASSED = {
    "test_config": 26,
    "test_custom_models": 461,
    "test_decoder_models": 198,
    "test_encoder_decoder_models": 168,
    "test_feature_extraction_models": 144,
    "test_seq_classifier": 108,
    "test_token_classification_qa": 24,
}


@pytest.fixture(scope="module")
def peft_tests(request):
    """The folder with PEFT's tests, of the version that is installed; kept in pytest's cache."""
    version = importlib.metadata.version("peft")
    kept = request.config.cache.mkdir("peft") / version
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            fetched = fetch_tests(version, Path(folder))
            with suppress(OSError):  # another worker was first
                fetched.rename(kept)
    return kept


def fetch_tests(version, folder):
    options = ["--no-deps", "--no-binary=peft", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, f"peft=={version}"]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode != 0:
        pytest.skip(f"PEFT's source distribution cannot be had: {finished.stderr.strip()[-300:]}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    fetched = folder / "fetched"
    shutil.copytree(folder / f"peft-{version}" / "tests", fetched / "tests")
    (fetched / "tests" / "__init__.py").touch()
    return fetched


@pytest.mark.slow
@pytest.mark.parametrize("file", LEAST_PASSED)
def test_peft_s_own_tests_pass(peft_tests, tmp_path, file):
    paths = [str(HERE), *(path for path in sys.path if path)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "EDORA_CACHE": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
        "MKL_CBWR": "COMPATIBLE",  # on some CPUs a rounding follows where a weight lies, and FSDP moves it
    }
    options = ["-q", "-c", os.devnull, "--rootdir", ".", "-p", "peft_suite", "-p", "no:cacheprovider"]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-W", "ignore", "--tb=short", f"tests/{file}.py"],
        cwd=peft_tests, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    passed = re.search(r"(\d+) passed", finished.stdout)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-1000:]
    assert int(passed[1]) >= LEAST_PASSED[file]
