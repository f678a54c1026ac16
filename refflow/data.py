"""Small public data sets that come with scikit-learn (the extra `data`); nothing is downloaded.

Tables:

    digits          1797 images of 8 x 8 pixels, integers 0 .. 16, one row each (Alpaydin & Kaynak, UCI 1998)
    wine            178 wines of three cultivars, 13 measurements (Forina et al., UCI 1991)
    breast_cancer   569 tumours, malignant or benign, 30 measurements (Wolberg, Street & Mangasarian, UCI 1995)
    hues            4231 pairs of angles in radians: the hues of neighbouring blocks of 8 x 8 pixels of two photographs, a temple
                    in China and a flower (scikit-learn's sample images); the photograph is the class
Images, (N, channels, height, width) of uint8:
    digit_images    the digits as 1797 images of (1, 8, 8), 0 .. 16
    photographs     patches, 520 of (3, 32, 32) by default, 0 .. 255, of the two photographs, of 427 x 640 pixels; the photograph is the
                    class, 0 the temple and 1 the flower
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TABLES = ("digits", "wine", "breast_cancer", "hues")
IMAGES = ("digit_images", "photographs")
PARTS = ("all", "train", "test")
TEST_PART = 5                           # of a photograph: 1/TEST_PART of its columns, on the right
BLOCK = 8                               # pixels, of a block of one hue
LOADERS = {"digits": "load_digits", "wine": "load_wine", "breast_cancer": "load_breast_cancer"}


@dataclass(frozen=True)
class DataSet:
    """`values`: (N, D) of float64; `names` of the columns; `labels`: (N,) of integers, the class of each row; `classes`."""

    values: np.ndarray
    names: list
    labels: np.ndarray
    classes: list


def load_data(name) -> DataSet:
    """The data set of that name; ImportError, naming the extra, if scikit-learn or pillow is missing; else ValueError."""
    if name not in TABLES:
        raise ValueError(f"load_data: name must be one of {', '.join(TABLES)}, not {name!r}")
    if name == "hues":
        return hues()
    bunch = getattr(scikit_learn(), LOADERS[name])()
    return DataSet(np.array(bunch.data, np.float64), [str(n) for n in bunch.feature_names], np.array(bunch.target),
                   [str(c) for c in bunch.target_names])


def hues():
    """The hues of pairs of blocks side by side; no block is in two pairs."""
    pairs = [hue_pairs(photograph) for photograph in photographs()]
    return DataSet(np.concatenate(pairs), ["hue", "hue_of_right"], numbers_of(pairs), ["temple", "flower"])


def numbers_of(parts):
    """For each row of each part, which part it is in."""
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def hue_pairs(photograph):
    """The angle of the mean colour of each block in the plane of colours, red at 0 and green at 2 pi/3, two by two.

    Pairs with an angle of exactly pi, an end of the circle (-pi, pi), are left out.
    """
    C, H, W = photograph.shape
    H, W = H - H % BLOCK, W - W % (2 * BLOCK)
    blocks = photograph[:, :H, :W].reshape(C, H // BLOCK, BLOCK, W // BLOCK, BLOCK)
    red, green, blue = blocks.mean((2, 4), np.float64)
    angles = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue).reshape(-1, 2)
    return angles[(np.abs(angles) < np.pi).all(-1)]


def scikit_learn():
    """The module `sklearn.datasets`."""
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError('scikit-learn is not installed; install it with: python -m pip install "refflow[data]"') from None
    return datasets


def load_images(name, size=32, stride=None, part="all") -> np.ndarray:
    """The images of that name, (N, channels, height, width) of uint8.

    For the photographs: patches of `size` x `size` pixels, cut on a grid from the upper left corner, `stride` (by default
    `size`) apart, row by row; patches closer together than their size share pixels.  `part`: "train", from the left four
    fifths of each photograph, and "test", from the right fifth, share none.  ImportError, naming the extra, if scikit-learn
    or pillow is not installed; ValueError otherwise.
    """
    return labelled("load_images", name, size, stride, part)[0]


def load_labelled_images(name, size=32, stride=None, part="all") -> tuple:
    """(images as from `load_images`, the class of each (N,)): of digits the digit, of patches the number of the photograph.

    ValueError and ImportError as from `load_images`.
    """
    return labelled("load_labelled_images", name, size, stride, part)


def labelled(caller, name, size, stride, part):
    """(images, classes); errors name the caller."""
    if name not in IMAGES:
        raise ValueError(f"{caller}: name must be one of {', '.join(IMAGES)}, not {name!r}")
    if name == "digit_images":
        bunch = scikit_learn().load_digits()
        return bunch.images[:, None].astype(np.uint8), np.array(bunch.target)
    stride = size if stride is None else stride
    for key, given in (("size", size), ("stride", stride)):
        if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < 1:
            raise ValueError(f"{caller}: {key} must be an int >= 1, not {given!r}")
    if part not in PARTS:
        raise ValueError(f"{caller}: part must be one of {', '.join(PARTS)}, not {part!r}")
    parts = [patches(caller, of_part(photograph, part), size, stride) for photograph in photographs()]
    return np.concatenate(parts), numbers_of(parts)


def photographs():
    """[(3, H, W)] of uint8."""
    datasets = scikit_learn()
    try:
        found = datasets.load_sample_images().images
    except ImportError:
        raise ImportError('pillow is not installed; install it with: python -m pip install "refflow[data]"') from None
    return [np.moveaxis(photograph, -1, 0) for photograph in found]


def of_part(photograph, part):
    cut = photograph.shape[2] - photograph.shape[2] // TEST_PART
    return {"all": photograph, "train": photograph[..., :cut], "test": photograph[..., cut:]}[part]


def patches(caller, photograph, size, stride):
    """(N, channels, size, size); an error names the caller."""
    C, H, W = photograph.shape
    if size > min(H, W):
        raise ValueError(f"{caller}: size must be at most {min(H, W)}, not {size}")
    found = np.lib.stride_tricks.sliding_window_view(photograph, (size, size), (1, 2))[:, ::stride, ::stride]
    return np.moveaxis(found, 0, 2).reshape(-1, C, size, size)


def one_hot(labels, count) -> np.ndarray:
    """(N, count): the classes 0 .. count - 1 as a context."""
    return np.eye(count)[labels]
