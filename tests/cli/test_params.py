import csv
import io
import socket
from pathlib import Path

import pytest
import torch

from glue_harness.cli import params
from glue_harness.cli.main import main
from glue_harness.cli.params import compare, count_parameters
from glue_harness.errors import InputError
from glue_harness.models.adapters import apply_method
from glue_harness.models.backbone import load_backbone
from glue_harness.reports.table import to_latex, to_markdown
from glue_harness.reports.tables import parameters as parameter_table
from glue_harness.reports.tables.parameters import Count, TimesFewer
from glue_harness.runs.record import Parameters
from glue_harness.sweeps.plan import plan

GOLDEN = Path(__file__).parents[1] / "support" / "golden"

# Counts on roberta-base without the head, computed from the shapes of its layers (48 of them), not published.
ROBERTA_BASE = {  # rank: (EDoRA, LoRA-XS, LoRA, DoRA)
    4: (37_632, 768, 405_504, 442_368),
    8: (39_936, 3_072, 811_008, 847_872),
    12: (43_776, 6_912, 1_216_512, 1_253_376),
    16: (49_152, 12_288, 1_622_016, 1_658_880),
    20: (56_064, 19_200, 2_027_520, 2_064_384),
    25: (66_864, 30_000, 2_534_400, 2_571_264),
    32: (86_016, 49_152, 3_244_032, 3_280_896),
}
# The reference's derived_param_counts.
ROBERTA_LARGE = {  # rank: (EDoRA, LoRA-XS)
    4: (99_840, 1_536),
    8: (104_448, 6_144),
    12: (112_128, 13_824),
    16: (122_880, 24_576),
    20: (136_704, 38_400),
    25: (158_304, 60_000),
    32: (196_608, 98_304),
}
LORA_QV = {
    ("roberta_base", 8): 294_912,
    ("roberta_large", 8): 786_432,
    ("deberta_v2_xxlarge", 8): 2_359_296,
    ("deberta_v2_xxlarge", 16): 4_718_592,
}
# Counted by others, without a head: KerasHub's preset deberta_v3_base_en, and a printed summary of deberta-v2-xxlarge
# with its masked-language head, 1,763,803,236 - 2,363,904 - 196,889,700.
DEBERTA_V3_BASE = 183_831_552
DEBERTA_V2_XXLARGE = 1_564_549_632


@pytest.fixture(scope="module")
def roberta_base():
    """The standard comparison, made without a socket and without a singular value decomposition."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(torch.linalg, "svd", refuse)
        return compare(["model=roberta_base"])


def refuse(*_, **__):
    raise AssertionError("counting needs neither a network nor singular values")


def count(*overrides):
    """Return the counts of what `overrides` choose, by label, without the baselines."""
    return {
        cell.identity.label: count_parameters(cell.config) for cell in plan([*overrides, "task=rte"]).cells
    }


def adapters(counts, method):
    return {count.rank: count.parameters.adapter for count in counts if count.method == method}


def ratio(counts, name, method, rank):
    (count,) = (count for count in counts if (count.method, count.rank) == (method, rank))
    return round(getattr(count.times_fewer, name), 1)


def test_roberta_base_has_the_known_counts(roberta_base):
    found = [adapters(roberta_base, method) for method in ("edora", "lora_xs", "lora", "dora")]
    assert {rank: tuple(column[rank] for column in found) for rank in found[0]} == ROBERTA_BASE
    assert {count.parameters.head for count in roberta_base} == {592_130}


def test_roberta_base_has_the_known_ratios(roberta_base):
    assert [ratio(roberta_base, "lora", "edora", rank) for rank in (4, 16, 25)] == [10.8, 33.0, 37.9]
    assert ratio(roberta_base, "lora_qv", "edora", 16) == 6.0
    assert ratio(roberta_base, "dora", "edora", 16) == 33.8
    assert ratio(roberta_base, "full", "edora", 16) == round(124_055_040 / 49_152, 1)
    (head_only,) = (count for count in roberta_base if count.method == "head_only")
    assert head_only.times_fewer == TimesFewer(None, None, None, None)


def test_every_method_is_there_at_every_rank_once(roberta_base):
    without_rank = ["full", "head_only", "magnitude_only"]
    ranked = [(m, r) for m in ("lora", "lora_qv", "dora", "edora", "lora_xs") for r in params.RANKS]
    assert [(c.method, c.rank) for c in roberta_base] == [*((m, None) for m in without_rank), *ranked]


def test_roberta_large_has_the_known_counts():
    counted = count(
        "model=roberta_large", "method=edora,lora_xs", f"rank={','.join(map(str, ROBERTA_LARGE))}"
    )
    found = {
        rank: tuple(counted[f"{method}_r{rank}"].adapter for method in ("edora", "lora_xs"))
        for rank in ROBERTA_LARGE
    }
    assert found == ROBERTA_LARGE
    assert {parameters.head for parameters in counted.values()} == {1_051_650}


@pytest.mark.parametrize(("model", "rank"), list(LORA_QV))
def test_lora_on_query_and_value_has_the_known_counts(model, rank):
    (parameters,) = count(f"model={model}", "method=lora_qv", f"rank={rank}").values()
    assert parameters.adapter == LORA_QV[model, rank]


def test_the_backbones_are_as_others_count_them():
    for model, known in (("deberta_v3_base", DEBERTA_V3_BASE), ("deberta_v2_xxlarge", DEBERTA_V2_XXLARGE)):
        (parameters,) = count(f"model={model}", "method=head_only").values()
        assert parameters.backbone == known


def test_deberta_v3_base_agrees_with_the_closed_form():
    ranks = ",".join(map(str, params.RANKS))
    counted = count("model=deberta_v3_base", "method=edora,lora_xs,lora,dora", f"rank={ranks}")
    layers, hidden, inner = 12, 768, 3072
    for rank in params.RANKS:
        lora = layers * rank * (3 * 2 * hidden + hidden + inner)
        expected = {
            "edora": layers * 4 * (rank**2 + hidden),
            "lora_xs": layers * 4 * rank**2,
            "lora": lora,
            "dora": lora + layers * 4 * hidden,
        }
        assert {method: counted[f"{method}_r{rank}"].adapter for method in expected} == expected
    assert {parameters.head for parameters in counted.values()} == {592_130}


def test_vera_has_its_published_count():
    """0.043 million parameters at rank 1024 on RoBERTa-base; no LoRA of that rank exists to compare with."""
    (found,) = compare(["model=roberta_base", "method=vera", "method.adapter.r=1024"])
    assert (found.label, found.settings, found.parameters.adapter) == (
        "vera_r1024",
        "method.adapter.r=1024",
        43_008,
    )
    assert (found.times_fewer.lora, found.times_fewer.dora) == (None, None)
    assert found.times_fewer.lora_qv == pytest.approx(294_912 / 43_008)


@pytest.mark.parametrize("method", ["full", "head_only", "magnitude_only", "edora", "dora", "vera"])
def test_a_count_is_that_of_the_model_a_run_builds(build_config, method):
    config = build_config(f"method={method}", "model=tiny_deberta", "task=stsb")
    backbone = load_backbone(config.model, config.task, config.seed)
    assert count_parameters(config) == apply_method(backbone, config.model, config.method, config.seed)[1]


def test_the_head_follows_the_task():
    for task, outputs, head in (("stsb", 1, 591_361), ("rte", 2, 592_130), ("mnli", 3, 592_899)):
        (found,) = compare(["model=roberta_base", "method=head_only", f"task={task}"])
        assert (found.outputs, found.parameters.head) == (outputs, head)


def make_count(model, method, rank, adapter, *ratios):
    parts = Parameters(adapter=adapter, head=592_130, total=adapter + 592_130, backbone=124_055_040)
    label = method if rank is None else f"{method}_r{rank}"
    return Count(model, method, label, rank, None, 2, parts, TimesFewer(*ratios))


COUNTS = [
    make_count("roberta_base", "full", None, 124_055_040, None, 294_912 / 124_055_040, None, 1.0),
    make_count("roberta_base", "head_only", None, 0, None, None, None, None),
    make_count("roberta_base", "edora", 16, 49_152, 33.0, 6.0, 33.75, 2523.9),
    make_count("roberta_base", "a_new&odd%method", 2, 30, 10.0, 1.25, 0.4, 4135168.0),
]


def test_golden_files():
    table = parameter_table.build_table(COUNTS)
    assert to_markdown(table) == (GOLDEN / "params.md").read_text()
    assert to_latex(table, "params_roberta_base") == (GOLDEN / "params.tex").read_text()
    assert parameter_table.to_csv(COUNTS) == (GOLDEN / "params.csv").read_text()


def test_models_are_groups_of_one_table():
    counts = [*COUNTS[:2], make_count("roberta_large", "edora", 16, 122_880, 26.4, 6.4, None, 2883.4)]
    text = to_markdown(parameter_table.build_table(counts))
    assert "| Model " in text
    assert "roberta_base 124,055,040, roberta_large 124,055,040" in text
    assert to_latex(parameter_table.build_table(counts), "x").count("\\midrule") == 2


def test_the_standard_comparison_is_written_and_others_only_printed(tmp_path):
    chosen = ["model=tiny_roberta", "model=tiny_deberta", f"results_dir={tmp_path}"]
    shown = params.report([*chosen, "method=lora", "rank=1"])
    assert "LoRA (r=1)" in shown
    assert not list(tmp_path.iterdir())
    params.report(chosen)
    written = {path.name: path.read_text() for path in (tmp_path / "params").iterdir()}
    assert set(written) == {
        f"tiny_{m}.{kind}" for m in ("roberta", "deberta") for kind in ("md", "tex", "csv")
    }
    rows = list(csv.DictReader(io.StringIO(written["tiny_deberta.csv"])))
    assert {row["model"] for row in rows} == {"tiny_deberta"}
    assert {(row["label"], row["adapter_parameters"]) for row in rows} >= {
        ("edora_r16", str(8 * (16**2 + 64)))
    }
    params.report(chosen)
    assert {path.name: path.read_text() for path in (tmp_path / "params").iterdir()} == written


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("modle=x", "modle=x: allowed is a value of model, task, method, rank, results_dir"),
        ("seed=3", "seed=3: allowed is a value of model"),
        ("model=bert", "model=bert: allowed is one of "),
        ("method=lorra", "method=lorra: allowed is one of "),
        ("rank=0", "rank=0: allowed is 1 to 768 for roberta_base"),
        ("rank=769", "rank=769: allowed is 1 to 768 for roberta_base"),
        ("method.adapter.target_modules=[key,nix]", "nix"),
    ],
)
def test_bad_input_is_one_line(override, message):
    with pytest.raises(InputError) as caught:
        compare([override] if "." not in override else ["method=lora", "rank=4", override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_prints_the_table(monkeypatch, capsys):
    main(["params", "model=tiny_roberta", "method=edora", "rank=4"])
    assert "| EDoRA (r=4) |" in capsys.readouterr().out
