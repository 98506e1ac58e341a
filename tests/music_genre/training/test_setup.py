"""How a run is set up: what is frozen, what a kind of model lacks, and where its folder is."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoModelForAudioClassification

from data_prep.prepared import load_prepared
from music_genre.errors import InputError
from music_genre.loading import find_model
from music_genre.training import setup
from music_genre.training.arguments import ModelArguments, RecipeArguments, parse_arguments
from music_genre.training.seen import SeenTracks
from music_genre.training.setup import (
    TRACKIO_VARIABLES,
    check_trackers,
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
        base, seen = find_model(str(model)), SeenTracks("")
        return make_run(base, dataset, preparation, seen, model_arguments, recipe).trainer

    return set_up


def is_trained(trainer) -> bool:
    return any(p.requires_grad for p in trainer.model.hubert.feature_extractor.parameters())


def test_random_convolutions_are_trained_unless_freezing_them_is_asked_for(set_up, tiny_config):
    assert is_trained(set_up(tiny_config))
    assert not is_trained(set_up(tiny_config, "--freeze_feature_encoder", "True"))


def test_a_linear_probe_on_random_weights_is_refused(set_up, tiny_config):
    with pytest.raises(InputError, match=r"--linear_probe has no effect .* with random weights"):
        set_up(tiny_config, "--linear_probe", "True")


def test_the_seed_of_the_data_orders_the_clips(set_up, tiny_config):
    def first_batch(*options: str) -> list[int]:
        return next(iter(set_up(tiny_config, *options).get_train_dataloader().batch_sampler))

    three = first_batch("--data_seed", "3")
    assert three == first_batch("--data_seed", "3", "--seed", "1")
    assert three != first_batch("--data_seed", "4")


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


@pytest.mark.parametrize("variable", TRACKIO_VARIABLES)
def test_no_variable_makes_something_on_the_hub(variable, monkeypatch, capsys):
    """trackio reads them where no option names a Space."""
    monkeypatch.setenv(variable, "you/x")
    recipe = RecipeArguments("out", report_to=["trackio"], use_cpu=True)
    assert recipe.trackio_static_space_id is False, "trackio would name one itself"
    assert recipe.hub_private_repo
    check_trackers(recipe)
    assert variable not in os.environ
    assert f"{variable} is set and not used" in capsys.readouterr().out


def test_an_efficientat_that_is_not_there_says_how_it_is_made():
    options = ModelArguments(model_name_or_path="my/models/efficientat-mn10")
    with pytest.raises(InputError, match=r"efficientat mn10 my/models/efficientat-mn10` makes it"):
        setup.find_base(options)
    with pytest.raises(InputError) as other:
        setup.find_base(ModelArguments(model_name_or_path="my/models/hubert"))
    assert "makes it" not in str(other.value)


def test_a_run_without_a_linear_probe_says_so(tiny_classifier):
    """It went straight to fine-tuning without a word."""
    model = AutoModelForAudioClassification.from_pretrained(tiny_classifier)
    assert setup.why_no_linear_probe(model, ModelArguments()) is None
    model.config.use_weighted_layer_sum = True
    assert "No linear probe: it is for" in setup.why_no_linear_probe(model, ModelArguments())
    for without in ({"from_scratch": True}, {"linear_probe": False}):
        assert setup.why_no_linear_probe(model, ModelArguments(**without)) is None
