"""Run the scan's two stages on many machines with Ray Data: decoders on cores, models on GPUs.

    music-genre scan /mnt/music --model you/distilhubert-gtzan --output genres.parquet --ray

Every machine needs `pip install "music-genre[ray]"`, and finds a local model and the music at the
same path or URL. Each decoder is an actor that decodes in an isolated process and then extracts the
features. The rows return to the machine that runs the scan; only that machine writes the table.
"""

import json
import os
import pickle
import socket
from collections.abc import Iterator
from math import ceil

import numpy as np
import pyarrow as pa
import torch

from music_genre import windows
from music_genre.classifier import GenreClassifier
from music_genre.errors import InputError
from music_genre.isolation import DecoderPool, run_in_pool
from music_genre.library.decoding import TIMEOUT, File, decode_file
from music_genre.library.scan import Rows, classify, prepare
from music_genre.library.table import Row
from music_genre.loading import find_model, load_feature_extractor

FILES_PER_BLOCK = 32  # the work that is repeated if a machine is lost


def connect(address: str | None) -> None:
    """Connect to a cluster; None means this machine's own, which is started if necessary.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray.data
    except ImportError as error:
        raise InputError('--ray needs Ray: pip install "music-genre[ray]".') from error
    try:
        if address and ":" in address:  # Ray itself needs minutes to notice that nothing answers
            host, port = address.removeprefix("ray://").rsplit(":", 1)
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, log_to_driver=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"There is no Ray cluster at {address}: {error}. If it asks for a token, set "
            "RAY_AUTH_MODE=token."
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False  # the scan has one


def rows_on_ray(classifier: GenreClassifier, seconds: float | None, device: str | None) -> Rows:
    """Return a function that makes the rows of files on the cluster.

    Args:
        classifier: its model is the one that the actors load.
        device: where the actors run their models; by default one GPU each if the cluster has any.
    """
    import ray
    from ray.data import ActorPoolStrategy, from_arrow

    is_folder = os.path.isdir(classifier.model_id)
    model = os.path.abspath(classifier.model_id) if is_folder else classifier.model_id
    window = int(classifier.window_seconds * classifier.sampling_rate)

    def make_rows(files: Iterator[File]) -> Iterator[Row]:
        table = pa.table({"file": [json.dumps(file) for file in files]})
        if not len(table):
            return
        has = ray.cluster_resources()
        num_cpus, num_gpus = int(has.get("CPU", 1)), int(has.get("GPU", 0))
        # A model reserves no core: if its machine is lost, the decoders hold all other cores.
        per_model = {"num_cpus": 0} | ({"num_gpus": 1} if num_gpus else {})
        options = {"batch_size": None, "batch_format": "pyarrow"}
        blocks = from_arrow(table, override_num_blocks=ceil(len(table) / FILES_PER_BLOCK))
        prepared = blocks.map_batches(
            Decoder,
            fn_constructor_args=(model, classifier.commit, window, seconds),
            compute=ActorPoolStrategy(
                min_size=1, max_size=num_cpus, initial_size=max(1, num_cpus // 2)
            ),
            num_cpus=1,
            **options,
        )
        rows = prepared.map_batches(
            Classifier,
            fn_constructor_args=(model, classifier.commit, device),
            compute=ActorPoolStrategy(min_size=1, max_size=num_gpus or max(1, num_cpus // 2)),
            **per_model,
            **options,
        )
        try:
            for one in rows.iter_rows():
                yield json.loads(one["row"])
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(
                f"The cluster failed: {reason}. All results so far are kept: run the same command "
                "again."
            ) from error

    return make_rows


class Decoder:
    """The first stage: from files to incomplete rows and the features of their windows.

    An incomplete row has no fixed columns, so both are sent as bytes.
    """

    def __init__(self, model: str, commit: str | None, window: int, seconds: float | None) -> None:
        self.feature_extractor = load_feature_extractor(find_model(model, commit))
        self.window, self.seconds = window, seconds
        self.pool = DecoderPool(1)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        files = (File(*json.loads(file)) for file in batch["file"].to_pylist())
        rate = self.feature_extractor.sampling_rate
        calls = ((file, (file, rate, self.seconds)) for file in files)
        for file, outcome in run_in_pool(self.pool, decode_file, calls, TIMEOUT):
            row, cuts = prepare(file, outcome, self.window)
            features = ()
            if len(cuts):
                features = windows.extract_features(self.feature_extractor, cuts).numpy()
            yield pa.table(
                {"prepared": pa.array([pickle.dumps((row, features))], pa.large_binary())}
            )


class Classifier:
    """The second stage: from features to complete rows."""

    def __init__(self, model: str, commit: str | None, device: str | None) -> None:
        self.classifier = GenreClassifier(model, commit, device=device)

    def __call__(self, batch: pa.Table) -> pa.Table:
        prepared = map(pickle.loads, batch["prepared"].to_pylist())
        rows = classify(prepared, self.classifier.labels, self.probabilities)
        return pa.table({"row": [json.dumps(row) for row in rows]})

    def probabilities(self, features: list[np.ndarray]) -> np.ndarray:
        return self.classifier.feature_probabilities(torch.from_numpy(np.stack(features)))
