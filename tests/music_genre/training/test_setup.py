"""How a run is set up: what is frozen, what a kind of model lacks, and where its folder is."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from data_prep.prepared import load_prepared
from music_genre.loading import find_model
from music_genre.training.arguments import ModelArguments, parse_arguments
from music_genre.training.setup import (
    default_output_dir,
    make_run,
)


@pytest.fixture
def set_up(prepared, tmp_path):
    dataset, preparation = load_prepared(prepared)

    def set_up(model: str | Path, *options: str):
        argv = ["--model_name_or_path", str(model), "--from_scratch", "True", "--use_cpu"]
        argv += ["--output_dir", str(tmp_path), "--spec_augment", "False", "--window_seconds", "1"]
        _, model_arguments, recipe = parse_arguments([*argv, *options])
        base = find_model(str(model))
        return make_run(base, dataset, preparation, model_arguments, recipe).trainer

    return set_up


def is_trained(trainer) -> bool:
    return any(p.requires_grad for p in trainer.model.hubert.feature_extractor.parameters())


def test_random_convolutions_are_trained_unless_freezing_them_is_asked_for(set_up, tiny_config):
    assert is_trained(set_up(tiny_config))
    assert not is_trained(set_up(tiny_config, "--freeze_feature_encoder", "True"))


def test_the_seed_of_the_data_orders_the_clips(set_up, tiny_config):
    def first_batch(*options: str) -> list[int]:
        return next(iter(set_up(tiny_config, *options).get_train_dataloader().batch_sampler))

    three = first_batch("--data_seed", "3")
    assert three == first_batch("--data_seed", "3", "--seed", "1")
    assert three != first_batch("--data_seed", "4")


def test_workers_make_the_same_crops_in_every_epoch(set_up, tiny_config):
    augmented = ("--mixup", "0.4", "--speed_perturbation", "True")

    def batches(n: int) -> list[torch.Tensor]:
        trainer = set_up(tiny_config, *augmented, "--dataloader_num_workers", str(n))
        loader, found = trainer.get_train_dataloader(), []
        for trainer.train_dataset.epoch in range(2):
            found += [batch["input_values"] for batch in loader]
        return found

    alone, helped = batches(0), batches(1)
    assert len(alone) == 10 and not torch.equal(alone[0], alone[5])
    assert all(torch.equal(one, other) for one, other in zip(alone, helped, strict=True))


@pytest.mark.parametrize(
    ("model", "dataset", "folder"),
    [
        ("ntu-spml/distilhubert", "GTZAN", "runs/distilhubert-gtzan"),
        ("models/mine/", "you/My-Set", "runs/mine-my-set"),
    ],
)
def test_a_run_is_named_after_model_and_dataset(model, dataset, folder):
    known = SimpleNamespace(dataset_name=dataset)
    assert default_output_dir(ModelArguments(model_name_or_path=model), known) == folder
