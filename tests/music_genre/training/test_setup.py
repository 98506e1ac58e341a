"""How a run is set up: what is frozen, what a kind of model lacks, and where its folder is."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from data_prep.prepared import load_prepared
from music_genre.loading import find_model
from music_genre.training import setup
from music_genre.training.arguments import ModelArguments, parse_arguments
from music_genre.training.setup import default_output_dir, make_run
from tests.families import FAMILIES


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


def test_the_seed_draws_the_weights(set_up, tiny_config):
    one, same, other = (
        set_up(tiny_config, "--seed", seed).model.classifier.weight for seed in ("3", "3", "4")
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_masks_and_smoothing_are_used_if_they_are_asked_for(set_up, tiny_config):
    plain = set_up(tiny_config)
    both = set_up(tiny_config, "--spec_augment", "True", "--label_smoothing_factor", "0.2")
    assert both.model.config.apply_spec_augment and not plain.model.config.apply_spec_augment
    outputs, target = {"logits": torch.tensor([[2.0, 0.0]])}, torch.tensor([[1.0, 0.0]])
    losses = [trainer.compute_loss_func(outputs, target) for trainer in (plain, both)]
    assert losses[1] - losses[0] == pytest.approx(0.2), "the logits differ by 2, half of 0.2 moves"


@pytest.mark.parametrize(("family", "has_time_first"), [("ast", True), ("whisper", False)])
def test_masks_know_the_axis_of_time(family, has_time_first, set_up, tmp_path):
    for part in FAMILIES[family]:
        part.save_pretrained(tmp_path / "base")
    assert set_up(tmp_path / "base").data_collator.has_time_first is has_time_first


def test_the_trainer_uploads_no_checkpoint(monkeypatch):
    monkeypatch.setattr(setup, "check_access", lambda name, is_private: name)
    recipe = SimpleNamespace(push_to_hub=True, hub_model_id="me/it", hub_private_repo=True)
    assert setup.open_repository(recipe, "you/gtzan") == "me/it"
    assert not recipe.push_to_hub


def test_one_thread_stays_one_where_a_person_asked_for_it(monkeypatch):
    """`accelerate launch` asks for one as well, of which nobody knows."""
    *_, recipe = parse_arguments(["configs/gtzan.json", "--use_cpu"])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
        setup.use_all_cores(recipe)
        assert torch.get_num_threads() == 1
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        monkeypatch.setattr("joblib.cpu_count", lambda: 6)
        setup.use_all_cores(recipe)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


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
