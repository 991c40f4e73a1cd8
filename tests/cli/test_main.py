"""The command line as a whole: help, what it says of bad input, and what it imports."""

import subprocess
import sys

import pytest

from glue_harness.cli.main import COMMANDS, build_parser, describe_commands, main


def test_help_has_a_line_for_each_command(capsys):
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)
    assert max(map(len, lines)) <= 120
    main([])
    assert capsys.readouterr().out == describe_commands()


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not command.is_hydras])
def test_help_of_a_command_has_its_options_and_an_example(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: edora-glue {name}" in shown
    assert f"\n  edora-glue {name} {COMMANDS[name].examples[0]}" in shown
    assert all(option in shown for option in COMMANDS[name].options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["staus"],
            "there is no command staus; did you mean status? type edora-glue --help for what there is",
        ),
        (["xyz"], "there is no command xyz; type edora-glue --help for what there is"),
        (
            ["status", "--wach", "experiment=demo"],
            "unrecognized arguments: --wach; type edora-glue status --help for what there is",
        ),
        (
            ["submit", "--check"],
            "argument --check: expected one argument; type edora-glue submit --help for what",
        ),
        (["plan", "experiment=nix"], "experiment=nix: allowed is one of demo"),
        (
            ["sweep", "seed=1"],
            "sweep: no experiment is chosen; type edora-glue sweep experiment=, one of demo",
        ),
        (["retry"], "retry: no experiment is chosen; type edora-glue retry experiment=, one of demo"),
        (
            ["train", "-m", "experiment=demo", "only.task=[rte]"],
            "experiment=demo: is a grid of runs, not one run; type edora-glue sweep experiment=demo 'only.task=[rte]'",
        ),
        (["params", "model=nix"], "model=nix: allowed is one of deberta_v2_xxlarge"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    shown = capsys.readouterr()
    assert caught.value.code == 2
    assert shown.err.startswith(f"error: {message}")
    assert (shown.err.count("\n"), shown.out) == (1, "")


def test_options_may_stand_before_and_after_overrides():
    for arguments in (["--watch", "experiment=demo", "seed=1"], ["experiment=demo", "--watch", "seed=1"]):
        parsed = build_parser("status").parse_intermixed_args(arguments)
        assert (parsed.watch, parsed.overrides) == (True, ["experiment=demo", "seed=1"])


def test_a_missing_package_is_one_line_that_says_what_to_type(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "glue_harness.cli.params", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit) as caught:
        main(["params"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: the package torch is not installed; type pip install torch\n"


def test_help_and_a_wrong_command_import_neither_torch_nor_hydra():
    code = "import sys; from glue_harness.cli.main import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "hydra", "omegaconf", "pandas", "numpy"} & set(done.stdout.splitlines()[-1].split())


def test_hydra_s_own_flags_work_after_train():
    command = [
        sys.executable,
        "-m",
        "glue_harness",
        "train",
        "model=tiny_roberta",
        "data=miniature",
        "--cfg",
        "job",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "learning_rate: ${tuned.learning_rate}" in done.stdout
