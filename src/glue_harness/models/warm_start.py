"""Staged initialisation: start a run from what a finished run of another task has trained."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from glue_harness.config.schema import Config
from glue_harness.errors import InputError
from glue_harness.models.backbone import is_head_parameter
from glue_harness.runs.identity import Identity
from glue_harness.runs.record import TRAINED_WEIGHTS, find_source


def start_from_source(adapted: nn.Module, config: Config, identity: Identity) -> None:
    """Give `adapted` the adapter and the head's body of the run that `identity` starts from, if any.

    They are those of its last epoch. The head's output layer stays as drawn from the run's own seed: its
    outputs mean other labels.

    Raises:
        InputError: there is no such finished run, or its tensors are not this model's.
    """
    if identity.source is None:
        return
    folder = find_source(identity, Path(config.runs_dir))
    if folder is None:
        task = identity.source[0]
        raise InputError(
            f"init_from={task}: no complete run with seed {identity.seed} and these settings in "
            f"{Path(config.runs_dir, identity.model, task)}; make it first: the same command with "
            f"task={task} init_from=null"
        )
    load_trained(adapted, folder / TRAINED_WEIGHTS, config.model.head_modules)


def load_trained(adapted: nn.Module, weights: Path, head_modules: list[str]) -> None:
    """Load a saved adapter and head into `adapted`, all but the head's last layer, its output.

    Raises:
        InputError: the file lacks a tensor that `adapted` has, or holds another or one of another shape.
    """
    assert isinstance(adapted, PeftModel)
    own, saved = get_peft_model_state_dict(adapted), load_file(weights)
    output = [name for name in own if is_head_parameter(name, head_modules)][-1].rpartition(".")[0]
    kept = {name: own[name] for name in own if name.rpartition(".")[0] == output}
    differing = sorted(
        name
        for name in (own.keys() | saved.keys()) - kept.keys()
        if name not in own or name not in saved or own[name].shape != saved[name].shape
    )
    if differing:
        raise InputError(
            f"{weights}: {differing[0]} is not as in this run's model; allowed is a run of the same model, "
            "method and rank"
        )
    set_peft_model_state_dict(adapted, saved | kept)
