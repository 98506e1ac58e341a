"""The Trainer for clips: random crops in training, the mean over windows in evaluation."""

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Trainer
from transformers.trainer_utils import EvalPrediction

from data_prep import InputError, audio
from music_genre import windows
from music_genre.metrics import GenreMetrics, negative_log_likelihood

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import SequenceFeatureExtractor

PADDING = -100  # what the Trainer pads predictions with


class ClipDataset(torch.utils.data.Dataset):
    """Clips for the Trainer: random crops in training, all windows of a clip in evaluation.

    An epoch of training is once through the audio: each clip is cropped as often as windows fit
    into it. A crop depends on seed, epoch and clip alone, so a resumed run hears what the other
    would have heard.
    """

    def __init__(self, clips: "Dataset", window: int, crop_seed: int | None = None) -> None:
        self.clips, self.window, self.crop_seed, self.epoch = clips, window, crop_seed, 0
        self.most: int | None = None  # samples from the middle that evaluation hears
        self.crops_per_clip = 1
        if crop_seed is not None:
            some = clips.select(range(0, len(clips), max(1, len(clips) // 50)))["audio"]
            mean_length = np.mean([audio.n_samples(clip["bytes"]) for clip in some])
            self.crops_per_clip = max(1, round(mean_length / window))

    def middle(self, seconds: float) -> "ClipDataset":
        """The same clips for evaluation, heard for `seconds` from their middle."""
        heard = ClipDataset(self.clips, self.window)
        heard.most = int(seconds * audio.SAMPLING_RATE)
        return heard

    def n_windows(self) -> int:
        """Of all clips, when they are evaluated."""
        return sum(
            len(windows.window_starts(audio.n_samples(clip["bytes"]), self.window))
            for clip in self.clips["audio"]
        )

    def __len__(self) -> int:
        return len(self.clips) * self.crops_per_clip

    def __getitem__(self, i: int) -> dict[str, Any]:
        clip = self.clips[i % len(self.clips)]
        data = clip["audio"]["bytes"]
        if self.crop_seed is None:
            start = max(0, audio.n_samples(data) - self.most) // 2 if self.most else 0
            waveform = self._read(data, start, self.most or -1)
            return {"windows": windows.cut(waveform, self.window), "label": clip["genre"]}
        return {"crop": self._crop(data, i), "label": clip["genre"]}

    def _crop(self, data: bytes, i: int) -> np.ndarray:
        rng = np.random.default_rng((self.crop_seed, self.epoch, i))
        start = windows.random_crop(audio.n_samples(data), self.window, rng)
        crop = self._read(data, start, self.window)
        # A shorter clip goes round: zeros would enter DistilHuBERT's group norm, mask or no mask.
        return np.resize(crop, self.window)

    @staticmethod
    def _read(data: bytes, start: int = 0, frames: int = -1) -> np.ndarray:
        return audio.read_wav(data, start, frames).astype(np.float32) / 32768


class ClipTrainer(Trainer):
    """A Trainer that evaluates whole clips: the mean over windows, as `GenreClassifier` answers."""

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise InputError(
                f"The loss at step {self.state.global_step + 1} is {loss.item()}: the run stops. "
                "Try a lower --learning_rate, or --precision fp32."
            )
        return loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        context = self.compute_loss_context_manager() if self.is_in_train else nullcontext()
        with torch.no_grad(), context:
            of_windows = windows.clip_probabilities(model, inputs["clips"])
        # Clips differ in their number of windows; between batches the Trainer pads like this too.
        padded = torch.nn.utils.rnn.pad_sequence(of_windows, True, padding_value=PADDING)
        return None, padded, inputs["labels"]

    def estimate_evaluation(self, clips: dict[str, ClipDataset]) -> tuple[float, float]:
        """Seconds that a validation in training, and all scoring after it, will take.

        From one batch of validation clips in each precision, before the model is wrapped.
        """
        n_windows = {name: clips[name].n_windows() for name in ("validation", "test")}
        n_short = len(clips["validation"]) + len(clips["test"])
        seconds = [
            self._seconds_per_window(clips["validation"], context) / self.args.world_size
            for context in (self.compute_loss_context_manager(), nullcontext())
        ]
        return n_windows["validation"] * seconds[0], (sum(n_windows.values()) + n_short) * seconds[
            1
        ]

    def _seconds_per_window(self, clips: ClipDataset, context) -> float:
        model, items = self.model.eval(), range(min(len(clips), self.args.eval_batch_size))
        with context, torch.no_grad():
            for _ in range(2):  # the first one warms up
                start = time.monotonic()
                batch = self._prepare_inputs(self.data_collator([clips[i] for i in items]))
                of_windows = windows.clip_probabilities(model, batch["clips"])
                n_windows = len(torch.cat(of_windows).cpu())  # .cpu() waits for a GPU
        return (time.monotonic() - start) / n_windows

    def score(self, clips: ClipDataset) -> tuple[list[np.ndarray], np.ndarray]:
        """Every clip once, in fp32, as a user of the model has it.

        Returns:
            Per clip the probabilities of its windows, shape (windows, labels); and the labels.
        """
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        output = self.predict(clips)
        return without_padding(output.predictions), output.label_ids


def without_padding(predictions: np.ndarray) -> list[np.ndarray]:
    """Per clip shape (windows, labels), from shape (clips, most windows, labels)."""
    return [clip[clip[:, 0] != PADDING] for clip in predictions]


def make_collate(feature_extractor: "SequenceFeatureExtractor", input_name: str):
    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        # Labels come first: the Trainer takes the first tensor's length for the number of clips.
        batch = {"labels": torch.tensor([item["label"] for item in items])}
        if "crop" in items[0]:
            crops = [item["crop"] for item in items]
            return batch | {input_name: windows.extract_features(feature_extractor, crops)}
        clips = [windows.extract_features(feature_extractor, item["windows"]) for item in items]
        return batch | {"clips": clips}

    return collate


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    probabilities = np.stack([clip.mean(0) for clip in without_padding(prediction.predictions)])
    references = prediction.label_ids
    return GenreMetrics().compute(predictions=probabilities.argmax(-1), references=references) | {
        "loss": negative_log_likelihood(probabilities, references)
    }
