"""One of two processes, of which the second has a row that is NaN: what each loss says.

Run as ``python refused_worker.py RANK STORE OUT``.
"""

import sys

import torch
from torch import distributed as dist

import tauten as tt

ROWS = 3
TABLE = 2 * ROWS
LOSSES = {
    "infonce": lambda **options: tt.InfoNCE(0.2, **options),
    "isogclr": lambda **options: tt.iSogCLR(TABLE, **options),
    "nuclr": lambda **options: tt.NUCLR(TABLE, 0.2, **options),
    "max-margin": lambda **options: tt.MaxMargin(0.2, **options),
    "siglip": lambda **options: tt.SigLIP(0.2, **options),
    "overflow": lambda **options: tt.InfoNCE(0.2, normalize=False, **options),
}
WAYS = {"auto": {}, "ring": {"ranks": "ring", "tile": 2}, "gather": {"ranks": "gather", "tile": 2}}


def main(rank, store, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    said = {}
    for loss, make in LOSSES.items():
        for way, options in WAYS.items():
            x, y = torch.randn(2, ROWS, 4, generator=torch.Generator().manual_seed(rank))
            x = 1e30 * x if loss == "overflow" else x
            y = 1e30 * y if loss == "overflow" else y
            if rank and loss != "overflow":
                x[1, 2] = torch.nan
            index = torch.arange(ROWS) + ROWS * rank
            for named in (True, False) if loss in ("infonce", "overflow") else (True,):
                try:
                    message = str(make(**options)(x, y, index if named else None))
                except tt.NonFiniteLossError as error:
                    message = str(error)
                said[loss, way, named] = message
    torch.save(said, out)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
