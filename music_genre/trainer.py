"""The Trainer for clips: random crops in training, the mean over windows in evaluation."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import EvalPrediction

from data_prep import InputError, audio
from music_genre import windows
from music_genre.metrics import GenreMetrics, negative_log_likelihood

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import SequenceFeatureExtractor


class ClipDataset(torch.utils.data.Dataset):
    """Clips for the Trainer: random crops in training, all windows of a clip in evaluation.

    An epoch of training is once through the audio: each clip is cropped as often as windows fit
    into it. A crop depends on seed, epoch and clip alone, so a resumed run hears what the other
    would have heard.
    """

    def __init__(self, clips: "Dataset", window: int, crop_seed: int | None = None) -> None:
        self.clips, self.window, self.crop_seed, self.epoch = clips, window, crop_seed, 0
        self.crops_per_clip = 1
        if crop_seed is not None:
            some = clips.select(range(0, len(clips), max(1, len(clips) // 50)))["audio"]
            mean_length = np.mean([audio.n_samples(clip["bytes"]) for clip in some])
            self.crops_per_clip = max(1, round(mean_length / window))

    def __len__(self) -> int:
        return len(self.clips) * self.crops_per_clip

    def __getitem__(self, i: int) -> dict[str, Any]:
        clip = self.clips[i % len(self.clips)]
        data = clip["audio"]["bytes"]
        if self.crop_seed is None:
            return {"windows": windows.cut(self._read(data), self.window), "label": clip["genre"]}
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


class SetEpoch(TrainerCallback):
    """Tell the training clips which epoch it is (Accelerate does so with one process only)."""

    def __init__(self, clips: ClipDataset) -> None:
        self.clips = clips

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.clips.epoch = int(state.epoch)


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
        return None, torch.stack([p.mean(dim=0) for p in of_windows]), inputs["labels"]

    def score(self, clips: ClipDataset) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities and labels of every clip once, in fp32, as a user of the model has them."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        output = self.predict(clips)
        return output.predictions, output.label_ids


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
    probabilities, references = prediction.predictions, prediction.label_ids
    return GenreMetrics().compute(predictions=probabilities.argmax(-1), references=references) | {
        "loss": negative_log_likelihood(probabilities, references)
    }
