"""sentence-transformers' trainer with triplets and a column of positions."""

import os
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.models import Pooling, Transformer
from shared import BATCH, LABELS, SAMPLES, build, captions
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tauten.integrations.sentence_transformers import (
    CachedControlledLoss,
    ControlledLoss,
    attach,
)


def encoder(folder):
    """Return a small BERT with a vocabulary of whole words."""
    known = ["[PAD]", "[UNK]", "class", "sample", "of", *map(str, range(SAMPLES))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(known)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(known), num_hidden_layers=1, **sizes)
    BertModel(config).save_pretrained(folder)
    return Transformer(str(folder))


def main():
    out = Path(os.environ["OUT"])
    torch.manual_seed(0)
    model = SentenceTransformer(modules=[encoder(out / "bert"), Pooling(16)], device="cpu")
    texts = captions()
    columns = {
        "anchor": texts,
        "positive": [f"{i} of class {int(c)}" for i, c in enumerate(LABELS)],
        "index": list(range(SAMPLES)),
    }
    if os.environ.get("CACHED"):
        columns["negative"] = [texts[i - 1] for i in range(SAMPLES)]
    data = Dataset.from_dict(columns)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(out / "run"),
        max_steps=8,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        save_steps=3,
        logging_steps=2,
        report_to="tensorboard",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(out / "logs")
    loss_fn = build()
    adapter = ControlledLoss(model, loss_fn)
    if os.environ.get("CACHED"):
        adapter = CachedControlledLoss(model, loss_fn, mini_batch_size=3)
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=data, loss=adapter
    )
    attach(trainer, loss_fn, labels=LABELS)
    trainer.train(resume_from_checkpoint=bool(list((out / "run").glob("checkpoint-*"))))


main()
