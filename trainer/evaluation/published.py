"""What do others publish of the real images? Mean and covariance of their features, in a .npz file."""

from __future__ import annotations

import os
import zipfile
from functools import lru_cache

import numpy as np

from trainer.data.source import digest
from trainer.errors import UserError
from trainer.evaluation.metric.base import Real
from trainer.evaluation.metric.frechet import Reference
from trainer.lazily import torch

_NEGATIVE = 1e-6
"""Eigenvalues of a covariance may be so far below zero, against the largest: float32 statistics are."""


def content(path: str) -> str:
    """A digest of the numbers in the file, wherever it lies. Raises UserError where it is not such a file."""
    try:
        state = os.stat(path)
    except OSError as error:
        raise UserError(f"evaluation.reference: {path}: {error.strerror or error}") from None
    return _content(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _content(path: str, _size: int, _time: int) -> str:
    return digest(*_read(path))


def published(path: str, width: int | None, device: torch.device) -> tuple[Real, str]:
    """What FID needs of `mu` [D] and `sigma` [D, D] in the file, and a digest of both.

    Nothing in the file is run. Raises UserError where it is not such a file, or its features have another `width`.
    """
    mean, covariance = _read(path)
    count = len(mean)
    if mean.ndim != 1 or covariance.shape != (count, count):
        shapes = f"mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)}"
        raise UserError(
            f"evaluation.reference: {path} has {shapes}: write a file of [D] and [D, D]"
        )
    if width is not None and count != width:
        raise UserError(
            f"evaluation.reference: {path} is of {count} dimensions, `features` has {width}: published statistics are "
            "of features: {kind: inception}"
        )
    name, damaged = (
        digest(mean, covariance),
        UserError(f"evaluation.reference: {path}: sigma is no covariance, or is damaged"),
    )
    finite = bool(torch.isfinite(mean).all() and torch.isfinite(covariance).all())
    if not finite or not torch.allclose(covariance, covariance.T, rtol=1e-4, atol=1e-6):
        raise damaged
    mean, covariance = mean.to(device), covariance.to(device)
    values, vectors = torch.linalg.eigh(covariance)
    if values[0] < -_NEGATIVE * values[-1].abs():
        raise damaged
    kept = Reference.of_spectrum(mean, covariance, values, vectors)
    return Real(kept._asdict()), name


def _read(path: str) -> tuple[torch.Tensor, torch.Tensor]:
    """`mu` and `sigma`, float64."""
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, covariance = (torch.from_numpy(_real(file[name])) for name in ("mu", "sigma"))
    except OSError as error:
        raise UserError(f"evaluation.reference: {path}: {error.strerror or error}") from None
    except (ValueError, TypeError, zipfile.BadZipFile, EOFError):
        raise UserError(
            f"evaluation.reference: {path} is not a .npz file of numbers: fetch it again"
        ) from None
    except KeyError:
        raise UserError(
            f"evaluation.reference: {path} lacks mu or sigma: write a file of published statistics"
        ) from None
    return mean, covariance


def _real(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise TypeError
    return array.astype(np.float64)
