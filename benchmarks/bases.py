"""How long bases take: the 48 SVDs of a model of roberta-base's size, without and with the cache on disk.

`python -m benchmarks.bases` prints seconds and file sizes; one thread, random weights, no download.
"""

import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from transformers import RobertaConfig, RobertaForSequenceClassification

from edora import EdoraConfig


def make_base() -> RobertaForSequenceClassification:
    """Make a model of roberta-base's size, the same every time."""
    torch.manual_seed(0)
    return RobertaForSequenceClassification(RobertaConfig())


@contextmanager
def timed(label: str) -> Iterator[None]:
    """Print how many seconds the body took."""
    start = time.perf_counter()
    yield
    print(f"{time.perf_counter() - start:6.2f} s  {label}", flush=True)


def adapt(label: str, **choices: Any) -> PeftModel:
    """Adapt a fresh model; making it is not timed."""
    base = make_base()
    config = EdoraConfig(**{"r": 16, "task_type": "SEQ_CLS", **choices})
    with timed(f"get_peft_model, {label}"):
        return get_peft_model(base, config)


def save_and_load(folder: Path, **choices: Any) -> None:
    """Time saving and loading of one adapter, and print the size of its file."""
    model, base = adapt(f"cached, {choices}", **choices), make_base()
    with timed(f"save_pretrained, {choices}"):
        model.save_pretrained(str(folder))
    with timed(f"from_pretrained, cached, {choices}"):
        PeftModel.from_pretrained(base, folder)
    size = (folder / "adapter_model.safetensors").stat().st_size
    print(f"{size:,} bytes, 2,368,520 of them the head's values")


def main() -> None:
    """Print seconds for adapting, saving and loading, and the sizes of what is written."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EDORA_CACHE"] = str(folder / "cache")
        adapt("empty cache, rank 16")
        adapt("cached, rank 64", r=64)
        adapt("random bases", bases="random")
        save_and_load(folder / "with", save_bases=True)
        save_and_load(folder / "without", save_bases=False)
        size = sum(path.stat().st_size for path in folder.glob("cache/**/*.safetensors"))
        print(f"{size:,} bytes of cache")
        os.environ["EDORA_CACHE"] = str(folder / "empty")
        base = make_base()
        with timed("from_pretrained, empty cache, save_bases=True"):
            PeftModel.from_pretrained(base, folder / "with")


if __name__ == "__main__":
    main()
