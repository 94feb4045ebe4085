"""Rules for options of data that belong together, checked before data are read."""

from __future__ import annotations

from tauten.training.options.data_options import DataConfig
from tauten.training.options.ranges import check_rules


def check_data(data: DataConfig, image: str) -> None:
    """Refuse options of the data that contradict each other, or the image tower.

    Args:
        data: to check.
        image: name of the image tower.

    Raises:
        ValueError: naming the field, its value and what it may be.
    """
    embedded = data.source == "emoji_lt"
    published = not embedded and not data.source.startswith("epic_kitchens:")
    check_rules(
        (
            data.clusters == 1,
            "data.clusters must be 2 or more, or 0 for none, got 1: one cluster holds all",
        ),
        (
            data.draft and data.frames > 0,
            "data.draft=True decodes pictures, not the clips of data.frames="
            f"{data.frames}: leave it out",
        ),
        (
            data.strip > 0 and not 1 <= data.frames <= data.strip,
            "data.frames must be 0 or more, and with strips 1 to data.strip, got "
            f"{data.frames} and data.strip={data.strip}",
        ),
        (
            embedded and not data.stream and (data.val is not None or data.test is not None),
            "data.source=emoji_lt has splits of its own: leave data.val and data.test out, got "
            f"{data.val} and {data.test}",
        ),
        (
            data.protocol != "all" and not published,
            f"data.protocol={data.protocol} is of Flickr30K and MSCOCO: {data.source} is "
            "searched with data.protocol=all",
        ),
        (
            data.span_low > data.span_high,
            f"data.span_low must be at most data.span_high={data.span_high}, got {data.span_low}: "
            "give both, such as 0.1 and 0.5",
        ),
        (
            (image == "features") != (data.features is not None),
            "model.image=features and data.features=FILE belong together, got "
            f"model.image={image} and data.features={data.features}",
        ),
        (
            data.tail > data.head,
            f"data.tail and data.head must be 1 <= tail <= head, got {data.tail} and {data.head}",
        ),
    )
