"""Data sets by name: what they hold, their index, and their pixels.

A data set is `train`, `validation` and `test` images of named classes. The validation split is cut
from the training images of each class by a hash of each image's key, so it depends neither on
listing order nor on other classes, and added images move few others. Generators we train, modes and
methods see `train` only.
"""

from __future__ import annotations

from .registry import DATASETS, Dataset, make_dataset

__all__ = ["DATASETS", "Dataset", "make_dataset"]
