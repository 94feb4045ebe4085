"""Hugging Face's trainer with a CLIPModel."""

import os
from pathlib import Path

import torch
from shared import BATCH, LABELS, SAMPLES, build, pictures
from transformers import CLIPConfig, CLIPModel, TrainingArguments

import tauten as tt
from tauten.integrations.transformers import ContrastiveTrainer, Positions

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def rows(size=SAMPLES):
    tokens = torch.randint(3, 60, (size, 8), generator=torch.Generator().manual_seed(1))
    return [{"pixel_values": p, "input_ids": t} for p, t in zip(pictures(16), tokens, strict=False)]


def main():
    out = Path(os.environ["OUT"])
    torch.manual_seed(0)
    text = {
        **SMALL,
        "vocab_size": 64,
        "max_position_embeddings": 8,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    vision = {**SMALL, "image_size": 16, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    arguments = TrainingArguments(
        output_dir=str(out / "run"),
        max_steps=8,
        per_device_train_batch_size=BATCH // int(os.environ.get("PROCESSES", "1")),
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        save_steps=3,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=4,
        report_to="tensorboard",
        use_cpu=True,
        disable_tqdm=True,
    )
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(out / "logs")
    trainer = ContrastiveTrainer(
        model,
        arguments,
        train_dataset=Positions(rows()),
        eval_dataset=Positions(rows(16)),
        loss_fn=build(),
        eval_loss_fn=tt.InfoNCE(0.07),
        labels=LABELS,
    )
    trainer.train(resume_from_checkpoint=bool(list((out / "run").glob("checkpoint-*"))))
    trainer.save_model(str(out / "model"))
    if trainer.is_world_process_zero():
        CLIPModel.from_pretrained(out / "model")


main()
