"""The trainer's arguments and optimiser, made of the configuration."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainingArguments

from tauten.training import processes
from tauten.training.loop.adaptive_memory import AdaptiveMemory
from tauten.training.loop.lars import LARS
from tauten.training.loop.steps import Steps
from tauten.training.options.config import Config, OptimConfig
from tauten.training.run.run_folder import RunFolder


def make_optimizer(config: OptimConfig, module: Any) -> torch.optim.Optimizer:
    """Build AdamW and its kin with weight decay on the towers' matrices, or SGD with it on all.

    The loss's own parameters have no weight decay, and may have their own rate, as may the towers.

    Args:
        config: of the optimiser.
        module: with ``encoder`` and ``loss_fn``.
    """
    named = [(name, p) for name, p in module.encoder.named_parameters() if p.requires_grad]
    further = getattr(module, "further", None)
    parts = [module.loss_fn] if further is None else [module.loss_fn, further]
    loss = [p for part in parts for p in part.parameters() if p.requires_grad]
    if config.tower_lr is None:
        groups = _by_decay([p for _, p in named], config)
    else:
        towers = [p for name, p in named if _of_tower(name)]
        groups = _by_decay([p for name, p in named if not _of_tower(name)], config)
        groups += [group | {"lr": config.tower_lr} for group in _by_decay(towers, config)]
    if loss:
        rate = config.lr if config.loss_lr is None else config.loss_lr
        groups.append({"params": loss, "weight_decay": 0.0, "lr": rate})
    held = {id(p) for group in groups for p in group["params"]}
    assert held == {id(p) for p in (*module.encoder.parameters(), *loss) if p.requires_grad}
    if config.name == "lars":
        return LARS(groups, lr=config.lr, momentum=config.momentum)
    if config.name in ("am-sgd", "am-adamw"):
        beta2 = config.beta2 if config.name == "am-adamw" else None
        return AdaptiveMemory(groups, config.lr, config.momentum, config.memory, beta2=beta2)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    # a fused one is called where a step is left out, too, so that accelerate does not know of it
    fused = config.precision != "fp16"
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, config.beta2), fused=fused)


def _by_decay(parameters: list[torch.nn.Parameter], config: OptimConfig) -> list[dict[str, Any]]:
    """Split the parameters into those with weight decay and those without."""
    decayed = [p for p in parameters if p.dim() > 1 or config.name == "sgd"]
    undecayed = [p for p in parameters if p.dim() <= 1 and config.name != "sgd"]
    return [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]


def _of_tower(name: str) -> bool:
    """Return whether an encoder's parameter belongs to a tower, not to what follows it."""
    return name.split(".")[0].endswith("tower")


def arguments(config: Config, folder: RunFolder, steps: Steps, module: Any) -> TrainingArguments:
    """Return the arguments of Hugging Face's trainer, which writes only into the run folder.

    Over several processes a batch is drawn as on one, and each process takes its part.
    """
    optim, evaluation = config.optim, config.evaluation
    several, low = processes.count() > 1, optim.precision != "fp32"
    made = TrainingArguments(
        output_dir=str(folder.path),
        max_steps=steps.total,
        per_device_train_batch_size=optim.batch_size,
        per_device_eval_batch_size=evaluation.batch_size,
        gradient_accumulation_steps=optim.accumulation,
        learning_rate=optim.lr,
        lr_scheduler_type="cosine_with_min_lr" if optim.min_lr else "cosine",
        lr_scheduler_kwargs={"min_lr": optim.min_lr} if optim.min_lr else {},
        warmup_steps=round(optim.warmup * steps.total),
        max_grad_norm=optim.max_grad_norm,
        seed=config.seed,
        data_seed=config.seed,
        use_cpu=config.device == "cpu" or (processes.on_cpu() and (several or low)),
        bf16=optim.precision == "bf16",
        fp16=optim.precision == "fp16",
        accelerator_config={"split_batches": True},
        ddp_find_unused_parameters=_may_be_unused(config, module),
        eval_strategy="steps",
        eval_steps=steps.between,
        save_strategy="steps",
        save_steps=steps.between,
        save_total_limit=None,
        metric_for_best_model=f"eval_{evaluation.metric}",
        greater_is_better=True,
        load_best_model_at_end=False,
        logging_strategy="steps",
        logging_steps=config.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        dataloader_drop_last=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        log_level="warning",
        log_level_replica="error",
    )
    # one process drives one device: a batch's pairs are each other's negatives, so keep it whole
    _ = made.device
    made._n_gpu = min(1, made.n_gpu)
    return made


def _may_be_unused(config: Config, module: Any) -> bool:
    """Return whether a loss may leave parameters without a gradient.

    Such as the pooler of a pretrained tower that no embedding depends on, or the network that
    predicts the temperature of anchors in a direction that the loss does not have.
    """
    pretrained = config.model.image != "convolutional" or config.model.text not in (
        "words",
        "ngrams",
    )
    one_way = module.loss_fn.directions != "both" and any(True for _ in module.loss_fn.parameters())
    return pretrained or one_way or bool(config.data.others)
