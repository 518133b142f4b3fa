"""MATLAB's imresize, bicubic: it made the LR files of the published test sets."""

import numpy as np


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic kernel with a = -1/2: 1 at 0, 0 at every other integer."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def bicubic_matrix(n_in: int, n_out: int) -> np.ndarray:
    """Weights (n_out, n_in) of bicubic resizing along one axis, borders replicated.

    To shrink, the kernel is stretched by the same factor (antialiasing).
    """
    scale = n_out / n_in
    stretch = max(1.0, 1 / scale)
    centre = (np.arange(n_out) + 0.5) / scale - 0.5  # in input pixels
    first = np.floor(centre - 2 * stretch).astype(int)
    taps = first[:, None] + np.arange(int(np.ceil(4 * stretch)) + 2)  # (n_out, k)
    weight = cubic((centre[:, None] - taps) / stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    matrix = np.zeros((n_out, n_in))
    rows = np.broadcast_to(np.arange(n_out)[:, None], taps.shape)
    np.add.at(matrix, (rows, taps.clip(0, n_in - 1)), weight)
    return matrix


def matlab_resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """MATLAB's bicubic imresize of (H, W[, 3]): rows first, then columns.

    uint8 is rounded after each pass; floating point is not.
    """
    resized = pixels.astype(np.float64)
    for axis in (0, 1):
        matrix = bicubic_matrix(resized.shape[axis], size[axis])
        resized = np.moveaxis(np.tensordot(matrix, resized, (1, axis)), 0, axis)
        if pixels.dtype == np.uint8:
            resized = np.floor(resized + 0.5).clip(0, 255)
    return resized.astype(pixels.dtype)
