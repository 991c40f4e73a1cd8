"""`edora-glue <command>`: finds the command, reads its options and runs it.

A command's module is imported once it is chosen, so that help and bad input cost no import of torch.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

PROGRAM = "edora-glue"
EXIT_BAD_INPUT = 2
OVERRIDES = "key=value … in Hydra's grammar, as in conf/: experiment=demo only.task=[rte] trainer.epochs=3"


@dataclass(frozen=True)
class Command:
    """A command: its module in this package, a line of help, examples, and argparse's options.

    Where `is_hydras`, Hydra reads the arguments, so that its own flags work.
    """

    module: str
    summary: str
    examples: tuple[str, ...]
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    takes_overrides: bool = True
    is_hydras: bool = False


COMMANDS = {
    "train": Command(
        "train",
        "run one configuration; -m runs a product of values; Hydra's own flags work (--cfg job, --help)",
        ("model=minilm data=miniature task=rte method=edora rank=16 seed=1", "-m … task=rte,sst2 seed=1,2,3"),
        is_hydras=True,
    ),
    "sweep": Command(
        "train",
        "run what is left of an experiment's grid",
        ("experiment=demo", "experiment=glue_all launcher=slurm only.task=[rte]"),
        is_hydras=True,
    ),
    "retry": Command("train", "run what has failed of an experiment", ("experiment=demo",), is_hydras=True),
    "plan": Command(
        "plan",
        "show an experiment's grid, what is done, and the time and disk that the rest takes",
        ("experiment=glue_all", "experiment=paper_grid only.task=[rte]"),
    ),
    "status": Command(
        "status",
        "show which runs of an experiment are done, running, failed or missing",
        ("experiment=demo", "--watch experiment=demo"),
        {"--watch": {"action": "store_true", "help": "show it again and again until all runs have ended"}},
    ),
    "report": Command(
        "report",
        "write an experiment's evidence, tables, figures and page to results/<experiment>/",
        ("experiment=minilm_glue", "experiment=minilm_glue protocol=held_out"),
    ),
    "tune": Command(
        "tune",
        "search learning rates and alpha on held-out rows of train, the same way for every method",
        ("model=minilm data=local data.root=glue", "experiment=tune_mpnet data.root=glue"),
    ),
    "params": Command(
        "params",
        "count the parameters that every method trains, without weights",
        ("model=roberta_base,mpnet", "model=roberta_base method=lora,edora rank=4,16"),
    ),
    "restore": Command(
        "restore",
        "turn an experiment's committed evidence back into finished runs",
        ("experiment=minilm_glue", "experiment=tune model=minilm data=local"),
    ),
    "significance": Command(
        "significance",
        "compare EDoRA with the other methods example by example (needs the dev labels)",
        ("experiment=minilm_glue data.root=glue",),
    ),
    "submit": Command(
        "submit",
        "predict the test sets with one method's runs, in the files that GLUE's leaderboard takes",
        (
            "experiment=glue_all only.method=[edora] only.rank=[16]",
            "--check results/glue_all/submission/edora_r16.zip",
        ),
        {"--check": {"metavar": "PATH", "help": "check a folder or zip of predictions instead"}},
    ),
    "wandb-sync": Command(
        "wandb_sync",
        "make the W&B runs that are missing and send those that are offline",
        ("experiment=demo",),
    ),
    "docs": Command(
        "docs",
        "put the tables of results/ into README.md and docs/, between their markers",
        ("", "README.md --results results"),
        {
            "documents": {"nargs": "*", "help": "Markdown files; by default all that have markers"},
            "--results": {"default": "results", "help": "folder of the tables"},
        },
        takes_overrides=False,
    ),
}


class Parser(argparse.ArgumentParser):
    """argparse's parser, which says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """End with the message and exit code 2."""
        fail(f"{message}; type {self.prog} --help for what there is")


def fail(message: str) -> NoReturn:
    """Print an error in one line and end with exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; bad input is one line and exit code 2."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(describe_commands(), end="")
        return
    if name == "--version":
        print(f"{PROGRAM} {importlib.metadata.version(PROGRAM)}")
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        fail(f"there is no command {name}; {hint}type {PROGRAM} --help for what there is")
    command = COMMANDS[name]
    parsed = None if command.is_hydras else build_parser(name).parse_intermixed_args(rest)
    try:
        module = importlib.import_module(f"glue_harness.cli.{command.module}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("glue_harness", "edora"):
            raise
        fail(f"the package {package} is not installed; type pip install {package}")
    module.run(parsed) if parsed is not None else module.run(name, rest)


def build_parser(name: str) -> Parser:
    """Return the parser of a command."""
    command = COMMANDS[name]
    examples = "\n".join(f"  {PROGRAM} {name} {example}" for example in command.examples)
    parser = Parser(
        prog=f"{PROGRAM} {name}",
        description=command.summary,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for option, settings in command.options.items():
        parser.add_argument(option, **settings)
    if command.takes_overrides:
        parser.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    return parser


def describe_commands() -> str:
    """Return a line for each command."""
    width = max(map(len, COMMANDS))
    lines = [f"usage: {PROGRAM} <command> [options] [key=value …]", ""]
    lines += [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    lines += ["", f"{PROGRAM} <command> --help shows a command's options and examples.", ""]
    return "\n".join(lines)
