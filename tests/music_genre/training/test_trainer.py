"""The loss of the Trainer, on the small synthesised dataset."""

import torch
from datasets import Audio, load_from_disk
from transformers import AutoModelForAudioClassification, set_seed

from music_genre.loading import find_model, load_feature_extractor
from music_genre.training import trainer as training
from music_genre.training.arguments import RecipeArguments
from music_genre.training.clips import Augmentation, CropDataset


def test_soft_targets_and_accumulation_give_the_gradient_of_one_large_batch(
    prepared, tiny_classifier, tmp_path
):
    """4 batches of 2 and 1 of 8: the Trainer must divide, and once only."""
    clips = load_from_disk(prepared)["train"].cast_column("audio", Audio(decode=False))

    def after_one_step(batch_size: int, accumulation: int) -> torch.Tensor:
        set_seed(0)
        model = AutoModelForAudioClassification.from_pretrained(
            tiny_classifier, hidden_dropout=0, attention_dropout=0, layerdrop=0,
            activation_dropout=0, feat_proj_dropout=0, final_dropout=0,
        )  # fmt: skip
        trainer = training.ClipTrainer(
            model=model,
            args=RecipeArguments(
                str(tmp_path / "run"), max_steps=1, learning_rate=0.1,
                precision="fp32",
                per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation,
                eval_strategy="no", save_strategy="no",
                disable_tqdm=True, max_grad_norm=0,
            ),
            optimizers=(torch.optim.SGD(model.parameters(), 0.1), None),  # a step is the gradient
            train_dataset=CropDataset(clips.select(range(4)), 16_000, 0, Augmentation(mixup=0.4)),
            data_collator=training.make_collate(
                load_feature_extractor(find_model(str(tiny_classifier))), "input_values"
            ),
        )  # fmt: skip
        trainer.train()
        return trainer.model.classifier.weight.detach()

    torch.testing.assert_close(after_one_step(8, 1), after_one_step(2, 4), rtol=1e-4, atol=1e-6)
