"""Loaders of shards and of tables."""

import torch
import webdataset as wds


class Info:
    """A loader with what open_clip notes on it."""

    def __init__(self, dataloader):
        self.dataloader = dataloader


class Batches:
    """Batches of rows."""

    def __init__(self, rows, size):
        self.rows, self.size, self.num_batches = list(rows), size, len(rows) // size

    def __iter__(self):
        for start in range(0, len(self.rows), self.size):
            images, texts, *ids = zip(*self.rows[start : start + self.size], strict=True)
            yield torch.stack(images), torch.stack(texts), *ids


class CsvDataset:
    """Rows of a table."""

    def __init__(self, table):
        self.table = table

    def __len__(self):
        return len(self.table)

    def __getitem__(self, row):
        return self.table[row]


def get_wds_dataset(args, preprocess, is_train, epoch=0):
    stage = wds.to_tuple("image", "text")
    return Info(Batches(list(stage(args.samples)), args.batch_size))


def get_csv_dataset(args, preprocess, is_train, epoch=0):
    rows = CsvDataset([(s["image"], s["text"]) for s in args.samples])
    return Info(Batches([rows[i] for i in range(len(rows))], args.batch_size))


def get_data(args):
    opened = get_wds_dataset if args.dataset_type == "webdataset" else get_csv_dataset
    return {"train": opened(args, None, is_train=True)}
