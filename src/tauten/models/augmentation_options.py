"""Options of random changes to training images; they need no other package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tauten.spec import Level, Range, Share, check_ranges


@dataclass
class AugmentationConfig:
    """Random changes of training images; 0 switches a change off."""

    rotation: Annotated[float, Range(0.0, 180.0)] = 10.0
    """largest rotation in degrees"""
    translation: Share = 0.1
    """largest shift as a share of the image's size"""
    scale: Annotated[float, Range(0.0, 0.99)] = 0.15
    """the size factor is drawn from 1 ± this"""
    hue: Annotated[float, Range(0.0, 0.5)] = 0.1
    """largest hue rotation as a share of the colour circle, at most 0.5"""
    saturation: Level = 0.3
    """the saturation factor is drawn from 1 ± this"""
    contrast: Level = 0.3
    """the contrast factor (around white) is drawn from 1 ± this"""
    brightness: Level = 0.1
    """what is added to all pixels (range 0..1) is drawn from ± this"""
    grayscale: Share = 0.0
    """probability that an image loses its colour"""
    noise: Level = 0.0
    """standard deviation of white noise added to pixels (range 0..1)"""

    def __post_init__(self) -> None:
        check_ranges(self, "augmentation ")


@dataclass
class ViewConfig:
    """Random draw of each view; the defaults are those of TS for CIFAR, without normalisation."""

    crop: Annotated[float, Range(0.0, 1.0, above=True)] = 0.1
    """least share of the image's area that a view shows; 1 shows all of it"""
    flip: Share = 0.5
    """probability of a left-right mirror image"""
    brightness: Share = 0.4
    """the brightness factor is drawn from 1 ± this"""
    contrast: Share = 0.4
    """the contrast factor, around the image's mean grey, is drawn from 1 ± this"""
    saturation: Share = 0.4
    """the saturation factor is drawn from 1 ± this"""
    hue: Annotated[float, Range(0.0, 0.5)] = 0.1
    """largest hue rotation as a share of the colour circle, at most 0.5"""
    jitter: Share = 0.8
    """probability that brightness, contrast, saturation and hue are changed"""
    grayscale: Share = 0.2
    """probability that a view has no colour"""
    blur: Share = 0.0
    """probability of a Gaussian blur of 0.1 to 2 pixels; TS for ImageNet and iSogCLR: 0.5"""

    def __post_init__(self) -> None:
        check_ranges(self, "views: ")
