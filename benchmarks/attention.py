"""MPNet's training step with our attention and dropout over transformers' own, in interleaved rounds.

`python -m benchmarks.attention` writes results/bench/attention.md; one thread, random weights, no download.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from glue_harness import hardware
from glue_harness.hardware import Environment, keep_freed_memory
from glue_harness.io import write_atomically
from glue_harness.models.adapters import apply_method
from glue_harness.models.backbone import load_backbone
from glue_harness.runs.record import code_version
from glue_harness.sweeps.plan import plan
from glue_harness.training.cpu_kernels import accelerate

RANDOM = ["model.weights.source=random", "model.weights.seed=1", "model.tokenizer=miniature"]
FP32 = Environment(device="cpu", precision="fp32", threads=1, processes=1)


def build_models(overrides: Sequence[str]) -> dict[str, nn.Module]:
    """Return the same adapted model twice: as transformers computes it, and as trainer=fast does."""
    common = ["model=mpnet", *RANDOM, "data=miniature", "task=rte", "trainer=fast", *overrides]
    (cell,) = plan(common).cells
    config, models = cell.config, {}
    for name in ("eager", "ours"):
        backbone = load_backbone(config.model, config.task, config.seed)
        models[name] = apply_method(backbone, config.model, config.method, config.seed)[0].train()
    accelerate(models["ours"], FP32)
    return models


def time_step(model: nn.Module, ids: torch.Tensor) -> float:
    """Return the seconds of one batch forward and backward, in training; ids is (rows, tokens)."""
    begin = time.perf_counter()
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    logits.square().sum().backward()
    return time.perf_counter() - begin


def measure(sizes: Sequence[str], rounds: int, overrides: Sequence[str]) -> str:
    """Return a table in Markdown with a line for each size, rows x tokens."""
    models = build_models(overrides)
    lines = ["| MPNet, EDoRA r=16, fp32 | transformers, s | ours, s | ours over transformers |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for size in sizes:
        rows, tokens = map(int, size.split("x"))
        ids = torch.randint(5, 500, (rows, tokens), generator=torch.Generator().manual_seed(0))
        times = [{name: time_step(model, ids) for name, model in models.items()} for _ in range(rounds + 1)][
            1:
        ]
        eager, ours = (statistics.median(one[name] for one in times) for name in ("eager", "ours"))
        ratio = statistics.median(one["ours"] / one["eager"] for one in times)
        lines.append(f"| {rows} x {tokens} | {eager:.3f} | {ours:.3f} | {ratio:.3f} |")
    commit, _ = code_version()
    lines += [
        "",
        f"Forward and backward with dropout, one thread; medians of {rounds} interleaved rounds, and of",
    ]
    lines[-1] += (
        f" their ratios. A size is rows x tokens. {hardware.describe()}; commit {(commit or '?')[:7]}."
    )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention", description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["32x12", "32x64", "16x128"], help="rows x tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/bench"), help="folder of attention.md")
    parser.add_argument("--set", nargs="*", default=[], help="overrides of conf/, for a smaller model")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    keep_freed_memory()
    table = measure(arguments.sizes, arguments.rounds, arguments.set)
    write_atomically(arguments.out / "attention.md", f"# Attention of MPNet\n\n{table}".encode())
    print(table, end="")


if __name__ == "__main__":
    main()
