"""Training in several processes, started by `accelerate launch`."""

from tests.training_runs import check_predictions, flags, launch, read_report


def test_two_processes_score_every_clip_once(root, prepared, tiny_config, tmp_path):
    """Validation and test have 10 clips, which two processes cannot share in batches of 4.

    --multi_gpu means torchrun: accelerate 1.15 takes `--cpu --num_processes 2` and starts one.
    """
    output_dir = tmp_path / "two"
    options = flags(
        prepared,
        tiny_config,
        output_dir,
        num_train_epochs=1,
        per_device_eval_batch_size=4,
        use_cpu=True,
    )
    result = launch(root, *options, launcher=["--multi_gpu", "--num_processes", "2"])
    assert result.returncode == 0, result.stderr[-3000:]
    report = read_report(output_dir)
    assert report["train"]["processes"] == 2
    assert report["train"]["steps"] == 5  # 80 crops, 2 x 8 a step
    assert report["test"]["n"] == report["validation"]["n"] == 10
    check_predictions(output_dir, prepared)
    assert result.stdout.count("Written to") == 1
