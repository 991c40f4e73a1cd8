"""A pytest plugin that hands EDoRA to PEFT's own tests, in the place of the methods that they are written for.

PEFT's tests are parametrised over methods and models. The plugin gives them EDoRA's configurations, and tiny models
with random weights in the place of downloads; what is then not about EDoRA is not run.
"""

import sys
import tempfile
import types
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig

from edora import EdoraConfig

# PEFT's tests import one class of diffusers, which is not installed and which no test that is run here uses.
diffusers = types.ModuleType("diffusers")
diffusers.StableDiffusionPipeline = type("StableDiffusionPipeline", (), {})
sys.modules.setdefault("diffusers", diffusers)

SIZES = {
    "vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0,
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "d_model": 16, "d_kv": 8, "d_ff": 32,
    "num_layers": 2, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64, "init_std": 0.5,
}  # fmt: skip
# Named apart from PEFT's own models, some of whose names its tests skip.
MODELS = {
    "test_decoder_models": {"decoder": "LlamaForCausalLM", "decoder-of-conv1d": "GPT2LMHeadModel"},
    "test_seq_classifier": {
        "bert": "BertForSequenceClassification",
        "roberta": "RobertaForSequenceClassification",
        "deberta": "DebertaV2ForSequenceClassification",
    },
    "test_feature_extraction_models": {
        "bert": "BertModel",
        "roberta": "RobertaModel",
        "deberta": "DebertaV2Model",
    },
    "test_encoder_decoder_models": {
        "t5": "T5ForConditionalGeneration",
        "bart": "BartForConditionalGeneration",
    },
    "test_token_classification_qa": {
        "bert": "BertForSequenceClassification",
        "roberta": "RobertaForSequenceClassification",
    },
}
TASKS = {
    "test_decoder_models": "CAUSAL_LM",
    "test_seq_classifier": "SEQ_CLS",
    "test_feature_extraction_models": "FEATURE_EXTRACTION",
    "test_encoder_decoder_models": "SEQ_2_SEQ_LM",
    "TestTokenClassificationModels": "TOKEN_CLS",
    "TestQuestionAnsweringModels": "QUESTION_ANS",
}
NEED_HUB = {
    "test_from_pretrained",
    "test_from_pretrained_cache_dir",
    "test_save_pretrained_with_runtime_config",
}
MIXING = {"TestDecoderModels", "TestEncoderDecoderModels"}
EXACT_START = {"init_std": 0.0}  # what PEFT's tests expect of a method unless they ask for another start
VARIANTS = {
    "EDoRA": {},
    "LoRA-XS": {"train_magnitude": False},
    "magnitude only": {"train_core": False},
    "random bases": {"bases": "random", "singular_values": "split"},
    "without bases": {"save_bases": False},
}
TARGETS = {
    "MLP": {"target_modules": "lin0", "r": 4},
    "MLP2": {"target_modules": ["lin0", "lin1"], "r": 2, "alpha": 4},
    "EmbConv1D": {"target_modules": ["lin0"], "r": 2},
    "MLP_LayerNorm": {"target_modules": ["lin0"], "modules_to_save": ["lin1"], "r": 4},
}
CUSTOM = [
    (f"{variant} {model}", model, EdoraConfig, {**EXACT_START, **VARIANTS[variant], **TARGETS[model]})
    for variant, model in dict.fromkeys(
        [*(("EDoRA", model) for model in TARGETS), *((variant, "MLP2") for variant in VARIANTS)]
    )
]
prepared: list[types.ModuleType] = []
models_folder = tempfile.TemporaryDirectory()


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc):
    """Replace methods and models in every parametrisation of this test."""
    if metafunc.module not in prepared:
        prepared.append(metafunc.module)
        prepare_module(metafunc.module)
    marks = metafunc.definition.own_markers
    for position, mark in enumerate(marks):
        if mark.name == "parametrize":
            names = [name.strip() for name in mark.args[0].split(",")]
            values = choose_values(names, list(mark.args[1]), metafunc)
            marks[position] = pytest.mark.parametrize(mark.args[0], values).mark


def prepare_module(module):
    """Replace what PEFT's tests look up when they run: the start of an adapter, and the access to the hub."""
    module.set_init_weights_false = start_far
    for other in (module, sys.modules.get(f"{module.__package__}.testing_common")):
        if other is not None:
            other.hub_online_once = nullcontext
    if hasattr(module, "DeepMLP"):
        seed_model(module.DeepMLP)


def pytest_collection_modifyitems(config, items):
    """Run only what is about EDoRA."""
    kept, dropped = [], []
    for item in items:
        (kept if is_about_edora(item) else dropped).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)


@pytest.fixture(autouse=True)
def admit_to_mixed_batches(request, monkeypatch):
    """PEFT's general tests of adapter_names name the methods that they admit, LoRA first."""
    if "mixed_adapter_batches" in request.node.name and request.cls.__name__ in MIXING:
        for module in (request.module, sys.modules[f"{request.module.__package__}.testing_common"]):
            monkeypatch.setattr(module, "LoraConfig", EdoraConfig)


def is_about_edora(item):
    if "prompt" in item.name or item.originalname in NEED_HUB:
        return False
    values = item.callspec.params.values() if hasattr(item, "callspec") else []
    return any(
        value is EdoraConfig or isinstance(value, EdoraConfig) or getattr(value, "func", None) is EdoraConfig
        for value in values
    )


def choose_values(names, values, metafunc):
    """The values that a parametrisation gets: EDoRA's for methods, translated ones for LoRA's, else its own."""
    if names == ["model_id"]:
        file = metafunc.module.__name__.rpartition(".")[2]
        return [make_model(Path(file, name), model_name) for name, model_name in MODELS[file].items()]
    if names == ["config_cls", "config_kwargs"]:
        task = TASKS.get(metafunc.cls.__name__) or TASKS[metafunc.module.__name__.rpartition(".")[2]]
        chosen = ("EDoRA", "LoRA-XS", "without bases")
        return [
            (EdoraConfig, {"task_type": task, "r": 4, **EXACT_START, **VARIANTS[name]}) for name in chosen
        ]
    if names == ["test_name", "model_id", "config_cls", "config_kwargs"]:
        return CUSTOM
    if names == ["config_cls"]:
        return [
            partial(EdoraConfig, r=8)
        ]  # the default of 16 is above the size of some layers, which is refused
    if names == ["config_class", "mandatory_kwargs"]:
        return [(EdoraConfig, {})]
    translated = [translate(row) for row in values if isinstance(row, tuple)]
    return [row for row in translated if row is not None] or values


def translate(row):
    """A row of LoRA's cases as EDoRA's; None for other methods and for what EDoRA does not adapt."""
    configs = [value if isinstance(value, dict) else vars(value) for value in row if is_configuration(value)]
    if not any(value is LoraConfig or type(value) is LoraConfig for value in row):
        return None
    if any(config.get("trainable_token_indices") or config.get("target_parameters") for config in configs):
        return None
    if any(not set(config["target_modules"] or []) <= {"lin0", "lin1"} for config in configs):
        return None
    return tuple(translate_value(value) for value in row)


def is_configuration(value):
    return isinstance(value, dict | LoraConfig)


def translate_value(value):
    if value is LoraConfig:
        return EdoraConfig
    if isinstance(value, dict):
        return {"target_modules": value["target_modules"], "r": 2, "init_std": 0.5}
    if isinstance(value, LoraConfig):
        targets = {"target_modules": value.target_modules, "modules_to_save": value.modules_to_save}
        return EdoraConfig(r=2, init_std=0.5, **targets)
    return "edora" if value == "lora" else value


def start_far(config_cls, kwargs):
    """What PEFT's tests call for a start that changes the output."""
    if not kwargs.get("train_core", True):
        pytest.skip("an adapter without R starts at the base model, always")
    return {**kwargs, "init_std": 0.5}


def seed_model(model_cls):
    """PEFT's tests load adapters onto a second, differently random model, which EDoRA refuses: make it equal."""
    start = model_cls.__init__

    def start_equally(self, *args, **kwargs):
        torch.manual_seed(0)
        start(self, *args, **kwargs)

    model_cls.__init__ = start_equally


def make_model(place, model_name):
    """Save a tiny model with random weights where PEFT's tests can load it by its path."""
    path = Path(models_folder.name) / place
    if not path.exists():
        model_cls = getattr(transformers, model_name)
        torch.manual_seed(0)
        model_cls(model_cls.config_class(**SIZES)).save_pretrained(path)
    return str(path)
