"""ENTRY: `python -m benchmarks`: measure the methods side by side and print the table.

Measured again on the same machine and commit, the rounds add to those in the results folder.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.measure import measure_peak_apart, time_rounds
from benchmarks.methods import FLOOR, METHODS, Setting, build_trainees
from benchmarks.report import Results, find_setting, open_results, write_results
from glue_harness.cli.common import command_line
from glue_harness.errors import InputError, require_one_of
from glue_harness.hardware import keep_freed_memory

PRECISIONS = ("fp32", "bf16")
PATIENCE = 3
"""How many disturbed rounds are borne for each one that is wanted."""


def measure(arguments: argparse.Namespace) -> str:
    """Measure what the arguments choose, keep it in their folder, and return the table.

    Raises:
        InputError: a method, size or precision that does not exist.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    keep_freed_memory()
    folder = Path(arguments.out)
    results = open_results(folder / "layers.json", arguments.model)
    names = [FLOOR, *(name for name in _check_methods(arguments.methods) if name != FLOOR)]
    for setting in _list_settings(arguments.sizes, arguments.precisions):
        _time_setting(results, names, setting, arguments.rounds)
        write_results(results, folder)
        if not arguments.no_memory:
            peaks = find_setting(results, str(setting))["peak_bytes"]
            for name in names:
                peaks[name] = measure_peak_apart(name, setting, arguments.model)
    return write_results(results, folder)


def _time_setting(results: Results, names: Sequence[str], setting: Setting, rounds: int) -> None:
    """Add rounds to a setting: as many as are asked for, if the machine is not disturbed all the time."""
    if rounds == 0:
        return
    known = find_setting(results, str(setting))
    wanted = len(known["rounds"]) + rounds
    trainees = build_trainees(names, setting, results["model"])
    for times in itertools.islice(time_rounds(trainees), rounds * (1 + PATIENCE)):
        if times is None:
            known["disturbed_rounds"] += 1
        else:
            known["rounds"].append(times)
        print(f"{setting}: {len(known['rounds'])} rounds", file=sys.stderr)
        if len(known["rounds"]) == wanted:
            return
    print(f"{setting}: the machine is too busy with other things", file=sys.stderr)


def _check_methods(names: list[str]) -> list[str]:
    for name in names:
        require_one_of("methods", name, tuple(METHODS))
    return names


def _list_settings(sizes: list[str], precisions: list[str]) -> Iterator[Setting]:
    for size, precision in itertools.product(sizes, precisions):
        require_one_of("precisions", precision, PRECISIONS)
        rows, _, tokens = size.partition("x")
        if not (rows.isdigit() and tokens.isdigit() and int(rows) and int(tokens)):
            raise InputError(f"sizes={size}: allowed is rows x tokens, such as 32x128")
        yield Setting(int(rows), int(tokens), precision)


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line; bad input is one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help=", ".join(METHODS))
    parser.add_argument("--sizes", nargs="+", default=["32x128", "8x64"], help="rows x tokens")
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), help=", ".join(PRECISIONS))
    parser.add_argument("--rounds", type=int, default=5, help="rounds to add to each setting")
    parser.add_argument("--no-memory", action="store_true", help="leave the peaks as they are")
    parser.add_argument("--model", default="roberta_base_random", help="a name in conf/model")
    parser.add_argument("--out", default="results/bench", help="folder of layers.json and layers.md")
    with command_line():
        print(measure(parser.parse_args(argv)), end="")


if __name__ == "__main__":
    main()
