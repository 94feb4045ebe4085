"""Options of random changes to training images; they need no other package."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class AugmentationConfig:
    """Random changes of training images; 0 switches a change off."""

    rotation: float = 10.0
    """largest rotation in degrees"""
    translation: float = 0.1
    """largest shift as a share of the image's size"""
    scale: float = 0.15
    """the size factor is drawn from 1 ± this"""
    hue: float = 0.1
    """largest hue rotation as a share of the colour circle, at most 0.5"""
    saturation: float = 0.3
    """the saturation factor is drawn from 1 ± this"""
    contrast: float = 0.3
    """the contrast factor (around white) is drawn from 1 ± this"""
    brightness: float = 0.1
    """what is added to all pixels (range 0..1) is drawn from ± this"""
    grayscale: float = 0.0
    """probability that an image loses its colour"""
    noise: float = 0.0
    """standard deviation of white noise added to pixels (range 0..1)"""

    def __post_init__(self) -> None:
        limits = {"hue": 0.5, "grayscale": 1.0, "scale": 0.99, "translation": 1.0, "rotation": 180}
        for name, value in vars(self).items():
            high = limits.get(name, math.inf)
            if not 0 <= value <= high:
                raise ValueError(f"augmentation {name} must be in [0, {high}], got {value}")


@dataclass
class ViewConfig:
    """Random draw of each view; the defaults are those of TS for CIFAR, without normalisation."""

    crop: float = 0.1
    """least share of the image's area that a view shows; 1 shows all of it"""
    flip: float = 0.5
    """probability of a left-right mirror image"""
    brightness: float = 0.4
    """the brightness factor is drawn from 1 ± this"""
    contrast: float = 0.4
    """the contrast factor, around the image's mean grey, is drawn from 1 ± this"""
    saturation: float = 0.4
    """the saturation factor is drawn from 1 ± this"""
    hue: float = 0.1
    """largest hue rotation as a share of the colour circle, at most 0.5"""
    jitter: float = 0.8
    """probability that brightness, contrast, saturation and hue are changed"""
    grayscale: float = 0.2
    """probability that a view has no colour"""
    blur: float = 0.0
    """probability of a Gaussian blur of 0.1 to 2 pixels; TS for ImageNet and iSogCLR: 0.5"""

    def __post_init__(self) -> None:
        limits = {"hue": 0.5}
        for name, value in vars(self).items():
            high = limits.get(name, 1.0)
            if not 0 <= value <= high:
                raise ValueError(f"views: {name} must be in [0, {high}], got {value}")
        if self.crop == 0:
            raise ValueError("views: crop must be above 0, the least share of the area shown")
