"""The benchmark end to end on a tiny model: numbers of a real machine are not its business, their making is."""

import json
import subprocess
import sys

import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import attention, measure, report
from benchmarks.measure import QUANTITIES
from benchmarks.methods import FLOOR, METHODS, Setting, build_trainees

SMALL_MPNET = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
TINY = ["--model", "tiny_roberta", "--sizes", "2x8"]


@pytest.fixture
def calm(monkeypatch):
    """Take every round, whatever else this machine does."""
    monkeypatch.setattr(measure, "CALM", float("inf"))


@pytest.fixture
def keep_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(out, *arguments):
    bench.main([*TINY, "--out", str(out), *arguments])
    return json.loads((out / "layers.json").read_text())


@pytest.mark.usefixtures("calm", "keep_threads")
def test_every_method_is_timed_in_every_round(tmp_path, capsys):
    results = run(tmp_path, "--rounds", "2", "--no-memory", "--precisions", "fp32", "bf16")
    assert list(results["settings"]) == ["2 x 8 fp32", "2 x 8 bf16"]
    for setting in results["settings"].values():
        assert len(setting["rounds"]) == 2
        for times in setting["rounds"]:
            assert set(times) == set(QUANTITIES)
            assert all(set(times[quantity]) == set(METHODS) for quantity in QUANTITIES)
            assert all(times["step"][name] > times["forward_backward"][name] > 0 for name in METHODS)
    table = capsys.readouterr().out
    assert table == (tmp_path / "layers.md").read_text()
    assert all(
        f"| {title} | 1.000 (" in table if name == FLOOR else f"| {title} |" in table
        for name, title in METHODS.items()
    )
    assert str(torch.get_num_threads()) + " threads" in table


@pytest.mark.usefixtures("calm", "keep_threads")
def test_rounds_add_up_on_the_same_code_only(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "code_version", lambda: ("a" * 40, False))
    few = ["--no-memory", "--precisions", "fp32", "--methods", "edora", "--rounds"]
    assert len(run(tmp_path, *few, "1")["settings"]["2 x 8 fp32"]["rounds"]) == 1
    assert len(run(tmp_path, *few, "2")["settings"]["2 x 8 fp32"]["rounds"]) == 3
    monkeypatch.setattr(report, "code_version", lambda: ("b" * 40, False))
    assert len(run(tmp_path, *few, "1")["settings"]["2 x 8 fp32"]["rounds"]) == 1
    monkeypatch.setattr(report, "code_version", lambda: ("b" * 40, True))
    assert len(run(tmp_path, *few, "1")["settings"]["2 x 8 fp32"]["rounds"]) == 1


@pytest.mark.usefixtures("keep_threads")
def test_disturbed_rounds_are_counted_and_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "CALM", -1.0)
    results = run(tmp_path, "--no-memory", "--precisions", "fp32", "--methods", "edora", "--rounds", "1")
    assert results["settings"]["2 x 8 fp32"]["rounds"] == []
    assert results["settings"]["2 x 8 fp32"]["disturbed_rounds"] == 1 + bench.PATIENCE
    assert "| EDoRA | -- |" in (tmp_path / "layers.md").read_text()


@pytest.mark.usefixtures("calm", "keep_threads")
def test_peaks_are_of_a_process_each(tmp_path):
    results = run(tmp_path, "--rounds", "0", "--precisions", "fp32", "--methods", "edora")
    peaks = results["settings"]["2 x 8 fp32"]["peak_bytes"]
    assert set(peaks) == {FLOOR, "edora"}
    assert all(100 * 2**20 < peak < 4 * 2**30 for peak in peaks.values())


def test_all_methods_stand_on_the_same_frozen_weights():
    trainees = build_trainees(list(METHODS), Setting(2, 8, "fp32"), "tiny_roberta")
    words = {name: trainee.model.get_input_embeddings().weight for name, trainee in trainees.items()}
    shared = {word.data_ptr() for name, word in words.items() if name != "full"}
    assert len(shared) == 1
    assert words["full"].data_ptr() not in shared
    for name, trainee in trainees.items():
        trainee.propagate()
        trainee.update()
        assert torch.equal(words[name], words[FLOOR]) == (name != "full"), name


def test_longhand_computes_what_the_method_does():
    trainees = build_trainees(["edora", "edora_longhand"], Setting(2, 8, "fp32"), "tiny_roberta")
    models = [trainee.model for trainee in trainees.values()]
    for model in models:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "core" in name or "magnitude" in name:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    outputs = []
    for trainee in trainees.values():
        trainee.propagate()
        outputs.append(trainee.model(**trainee.inputs).logits)
    assert torch.allclose(*outputs, rtol=1e-4, atol=1e-6)
    gradients = [
        [p.grad for name, p in model.named_parameters() if "core" in name or "magnitude" in name]
        for model in models
    ]
    assert len(gradients[0]) == len(gradients[1]) == 16
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "lorra"], "methods=lorra: allowed is one of floor, full, "),
        (["--sizes", "32"], "sizes=32: allowed is rows x tokens, such as 32x128"),
        (["--precisions", "fp16"], "precisions=fp16: allowed is one of fp32, bf16"),
        (["--model", "bert"], "model=bert: allowed is one of "),
    ],
)
@pytest.mark.usefixtures("keep_threads")
def test_bad_input_is_one_line(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, "--no-memory", *arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {message}")


def test_the_module_is_a_command():
    command = [sys.executable, "-m", "benchmarks", "--precisions", "fp16"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "error: precisions=fp16: allowed is one of fp32, bf16"


def test_a_ratio_is_the_median_of_ratios_within_rounds():
    rounds = [{"step": {FLOOR: floor, "lora": lora}} for floor, lora in [(1.0, 1.1), (2.0, 2.6), (4.0, 4.8)]]
    assert report.take_ratio(rounds, "step", "lora") == pytest.approx(1.2)
    assert report.take_ratio(rounds, "step", "edora") is None


def test_mpnets_attention_is_timed_beside_transformers_own(tmp_path, capsys, keep_threads):
    small = [f"model.architecture.{name}={value}" for name, value in SMALL_MPNET.items()]
    attention.main(
        ["--sizes", "2x8", "--rounds", "2", "--out", str(tmp_path), "--set", *small, "model.adapted_layers=4"]
    )
    table = capsys.readouterr().out
    assert (tmp_path / "attention.md").read_text().endswith(table)
    (line,) = (line for line in table.splitlines() if line.startswith("| 2 x 8 |"))
    eager, ours, ratio = (float(text) for text in line.strip("| ").split(" | ")[1:])
    assert min(eager, ours, ratio) > 0
