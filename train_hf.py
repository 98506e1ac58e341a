"""Fine-tune DistilHuBERT, or another audio model, to tell music genres apart; report; publish.

    accelerate launch train_hf.py                              # your GTZAN, or else the quickstart
    accelerate launch train_hf.py configs/gtzan.json           # the reference run
    accelerate launch train_hf.py configs/gtzan.json --dataset data/gtzan --learning_rate 3e-5

Without arguments it trains on the GTZAN archive in data/ if there is one. If not, it runs the
quickstart: synthesised music and a tiny net, a few minutes on two cores, no network.
"""

import os
import sys

from music_genre.training.options import short_help

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(short_help(__doc__))  # at once: what follows takes seconds to import
    sys.exit()

# Before torch: on a CPU that others use too, threads that spin while they wait made a step 10 to 20
# times slower; threads that sleep cost 12 to 25 % where the CPU is free.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import signal
import time
from pathlib import Path

from music_genre.errors import InputError, exit_with_message
from music_genre.evaluation.seeds import describe_seeds, summarize_seeds
from music_genre.hub import check_access
from music_genre.loading import find_model
from music_genre.publishing.card import model_card
from music_genre.publishing.hub import publish
from music_genre.report import RUNS_DIR, read_report, write_report
from music_genre.training.arguments import RecipeArguments, parse_arguments
from music_genre.training.checkpoints import find_checkpoint, is_disk_full, n_steps_of
from music_genre.training.data import Source, load_data
from music_genre.training.linear_probe import (
    fit_linear_probe,
    has_linear_head,
    keep_layers,
    load_linear_probe_if_better,
    save_linear_probe,
)
from music_genre.training.options import DataArguments, ModelArguments
from music_genre.training.results import describe, describe_training, print_results, write_results
from music_genre.training.scoring import evaluate
from music_genre.training.setup import (
    Run,
    add_callbacks,
    check_trackers,
    default_output_dir,
    make_trainer,
    print_plan,
    use_all_cores,
)
from music_genre.training.trainer import ClipDataset

GO_ON = "--resume_from_checkpoint last goes on with it."


def run(
    data_arguments: DataArguments, model_arguments: ModelArguments, arguments: RecipeArguments
) -> None:
    """Train once, score, and write what a run leaves.

    Raises:
        InputError: with a sentence for the person.
        SystemExit: 143 after SIGTERM, when a checkpoint was saved.
    """
    started = time.monotonic()
    use_all_cores(arguments)
    check_trackers(arguments)
    location = find_model(model_arguments.model_name_or_path, model_arguments.revision)
    with arguments.main_process_first(desc="preparing data and folder"):
        dataset, source = load_data(
            data_arguments.dataset, data_arguments.split, data_arguments.split_seed
        )
        if not len(dataset["validation"]):
            raise InputError("The validation split is empty: take another --split.")
        if arguments.output_dir is None:
            arguments.output_dir = default_output_dir(model_arguments, source)
        checkpoint = find_checkpoint(Path(arguments.output_dir), arguments.resume_from_checkpoint)
        steps_before = n_steps_of(checkpoint)
    repo_id = open_repository(arguments, source)

    trainer, clips = make_trainer(location, dataset, source, model_arguments, arguments)
    this = Run(trainer, clips, source, model_arguments, arguments)
    if trainer.is_world_process_zero():
        print_plan(this)
    has_linear_probe = start_from_linear_probe(this, checkpoint)
    time_keeper, on_sigterm = add_callbacks(this, started)
    training_started = time.monotonic()
    trainer.train(resume_from_checkpoint=checkpoint)
    training_seconds = time.monotonic() - training_started
    if on_sigterm.is_asked:
        print(f"Stopped by SIGTERM after step {trainer.state.global_step}; it is saved. {GO_ON}")
        sys.exit(128 + signal.SIGTERM)

    linear_probe = load_linear_probe_if_better(trainer) if has_linear_probe else None
    scores, temperature = evaluate(trainer, {n: clips[n] for n in ("validation", "test")})
    if trainer.is_world_process_zero():
        training = describe_training(this, training_seconds, steps_before) | {
            "run_seconds": round(time.monotonic() - started, 1),
            "forecast_seconds": time_keeper.forecast and round(time_keeper.forecast, 1),
            "stopped_by_budget": time_keeper.stopped_early,
            "linear_probe": linear_probe,
        }
        report = describe(this, scores, training) | {"temperature": temperature}
        write_results(this, scores, report)
        model_card(report, repo_id or str(this.folder)).save(this.folder / "README.md")
        write_report(report, this.folder)  # the last one: with it the run is finished
        print_results(report, this.folder)
        if repo_id:
            print(f"Published: {publish(this.folder, repo_id, arguments.hub_private_repo)}")


def start_from_linear_probe(run: Run, checkpoint: str | None) -> bool:
    """Fit the linear probe and choose the layers; a resumed run has both in its checkpoint.

    Returns:
        Whether the run starts, or started, from a linear probe.
    """
    model, crops = run.trainer.model, run.clips["train"]
    model_arguments = run.model_arguments
    if (
        not model_arguments.linear_probe
        or model_arguments.from_scratch
        or not has_linear_head(model)
        or model.config.use_weighted_layer_sum  # it chooses among the layers itself
    ):
        return False
    if checkpoint:
        config = json.loads(Path(checkpoint, "config.json").read_text(encoding="utf-8"))
        keep_layers(model, config.get("encoder_layers", config["num_hidden_layers"]))
        return True
    probe = fit_linear_probe(run.trainer, ClipDataset(crops.clips, crops.window))
    if run.trainer.is_world_process_zero():
        print(
            f"Linear probe on layer {probe['layers']} of {probe['of_layers']}: accuracy "
            f"{probe['accuracy']:.3f}, cross-validated over the artists of train."
        )
    save_linear_probe(run.trainer, run.clips["validation"])
    return True


def run_seeds(argv: list[str], seeds: list[int], output_dir: str | None) -> None:
    """One run after another, each in a folder of its own; finished ones are not run again."""

    if len(set(seeds)) < 2 or not output_dir:
        raise InputError("--seeds takes two or more different numbers, and needs an --output_dir.")
    folders = [Path(output_dir) / f"seed-{seed}" for seed in seeds]
    for seed, folder in zip(seeds, folders, strict=True):
        arguments = parse_arguments([*argv, "--seed", str(seed), "--output_dir", str(folder)])
        recipe = arguments[-1]
        if recipe.push_to_hub:
            raise InputError("--seeds makes several models: publish the one you choose.")
        if recipe.resume_from_checkpoint:
            if read_report(folder):
                continue
            has_checkpoint = any(folder.glob("checkpoint-*"))
            recipe.resume_from_checkpoint = "last" if has_checkpoint else None
        run(*arguments)
    if recipe.process_index == 0:
        print(describe_seeds(summarize_seeds(folders)))


def open_repository(arguments: RecipeArguments, source: Source) -> str | None:
    """With --push_to_hub, the id of a repository that can be written; before hours of work."""
    if arguments.hub_token:
        raise InputError(
            "A token does not belong on a command line or in a file that is shared: revoke it, and "
            "give a new one to `hf auth login` or put it into HF_TOKEN."
        )
    if not arguments.push_to_hub:
        return None
    if not arguments.hub_model_id:
        raise InputError("--push_to_hub needs --hub_model_id USER/NAME.")
    if source.is_synthetic:
        raise InputError("A model of synthesised music is a demonstration: it is not pushed.")
    arguments.push_to_hub = False  # the Trainer would upload every checkpoint, pickles and all
    return check_access(arguments.hub_model_id, arguments.hub_private_repo)


def main() -> None:
    argv = sys.argv[1:]

    arguments = parse_arguments(argv, __doc__)
    recipe = arguments[-1]
    with exit_with_message(f"Stopped. From the last checkpoint, {GO_ON}"):
        try:
            if recipe.seeds:
                run_seeds(argv, recipe.seeds, recipe.output_dir)
            else:
                run(*arguments)
        except InputError:
            raise
        except Exception as error:
            if not is_disk_full(error, Path(recipe.output_dir or RUNS_DIR)):
                raise
            raise InputError(f"The disk is full. Make room; then {GO_ON}") from error


if __name__ == "__main__":
    main()
