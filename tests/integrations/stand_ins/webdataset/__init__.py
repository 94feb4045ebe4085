"""The part of webdataset that is exchanged."""


def to_tuple(*names):
    """Return the stage that makes tuples."""
    return lambda samples: ((*(sample[name] for name in names),) for sample in samples)
