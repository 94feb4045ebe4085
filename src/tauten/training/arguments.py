"""The trainer's arguments and optimiser, made of the configuration."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainingArguments

from tauten.training.config import Config, OptimConfig
from tauten.training.module import ContrastiveModule
from tauten.training.run_folder import RunFolder


def make_optimizer(config: OptimConfig, module: ContrastiveModule) -> torch.optim.AdamW:
    """AdamW with weight decay on the towers' matrices only.

    Biases, norms and the loss's own parameters have none; the latter may have their own rate.
    """
    towers = [p for p in module.encoder.parameters() if p.requires_grad]
    loss = [p for p in module.loss_fn.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in towers if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in towers if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if loss:
        rate = config.lr if config.loss_lr is None else config.loss_lr
        groups.append({"params": loss, "weight_decay": 0.0, "lr": rate})
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, config.beta2), fused=True)


def arguments(
    config: Config, folder: RunFolder, total_steps: int, eval_steps: int
) -> TrainingArguments:
    """What Hugging Face's trainer is told; it writes nothing outside the run folder."""
    optim, evaluation = config.optim, config.evaluation
    made = TrainingArguments(
        output_dir=str(folder.path),
        max_steps=total_steps,
        per_device_train_batch_size=optim.batch_size,
        per_device_eval_batch_size=evaluation.batch_size,
        gradient_accumulation_steps=optim.accumulation,
        learning_rate=optim.lr,
        lr_scheduler_type="cosine",
        warmup_steps=round(optim.warmup * total_steps),
        max_grad_norm=optim.max_grad_norm,
        seed=config.seed,
        eval_strategy="steps",
        eval_steps=eval_steps,
        save_strategy="steps",
        save_steps=eval_steps,
        save_total_limit=None,
        metric_for_best_model=f"eval_{evaluation.metric}",
        greater_is_better=True,
        load_best_model_at_end=False,
        logging_strategy="steps",
        logging_steps=config.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        dataloader_num_workers=0,
        dataloader_drop_last=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        log_level="warning",
    )
    # one process drives one device: a batch's pairs are each other's negatives, so keep it whole
    _ = made.device
    made._n_gpu = min(1, made.n_gpu)
    return made
