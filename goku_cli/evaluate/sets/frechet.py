"""Distances between two sets of features: the Frechet distance of their normal distributions, and the kernel distance.

FD = |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))  (Dowson and Landau 1982; FID: Heusel et al. 2017)
KID, the unbiased squared maximum mean discrepancy of the kernel (x.y / D + 1)^3  (Binkowski et al. 2018)

The trace of the square root is the sum of the roots of the eigenvalues of S_a^(1/2) S_b S_a^(1/2), a symmetric matrix,
in float64: scipy's `sqrtm`, which other tools take, was wrong in some versions and has lost the argument they pass.

Shapes: N, M clips of D features.
"""

from dataclasses import dataclass

import numpy as np

from goku_cli.errors import GokuError


@dataclass(frozen=True)
class Normal:
    """Mean (D,) and covariance (D, D), float64."""

    mean_D: np.ndarray
    covariance_DD: np.ndarray

    @classmethod
    def of(cls, features_ND: np.ndarray) -> "Normal":
        """Return the normal distribution of features.

        Raises:
            GokuError: there are fewer clips than features, so that the covariance is not that of the source.
        """
        n, dims = features_ND.shape
        if n < dims:
            raise GokuError(f"a Frechet distance of {dims} features needs at least {dims} clips on each side, not {n}")
        x_ND = features_ND.astype(np.float64)
        return cls(x_ND.mean(0), np.atleast_2d(np.cov(x_ND, rowvar=False)))


def frechet(a: Normal, b: Normal) -> float:
    """Return the Frechet distance of two normal distributions; 0 when they are the same."""
    values_D, vectors_DD = np.linalg.eigh(a.covariance_DD)
    root_DD = (vectors_DD * np.sqrt(values_D.clip(0))) @ vectors_DD.T
    inner_DD = root_DD @ b.covariance_DD @ root_DD
    cross = np.sqrt(np.linalg.eigvalsh((inner_DD + inner_DD.T) / 2).clip(0)).sum()
    apart = np.square(a.mean_D - b.mean_D).sum()
    return float(max(apart + np.trace(a.covariance_DD) + np.trace(b.covariance_DD) - 2 * cross, 0.0))


def kid(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    """Return the kernel distance of two sets of at least two clips; unbiased, so it can be a little below 0."""
    a_ND, b_MD = a_ND.astype(np.float64), b_MD.astype(np.float64)

    def kernel(x_ND: np.ndarray, y_MD: np.ndarray) -> np.ndarray:
        return np.asarray((x_ND @ y_MD.T / x_ND.shape[1] + 1) ** 3)

    def within(x_ND: np.ndarray) -> float:
        k_NN, n = kernel(x_ND, x_ND), len(x_ND)
        return float((k_NN.sum() - np.trace(k_NN)) / (n * (n - 1)))

    return within(a_ND) + within(b_MD) - 2 * float(kernel(a_ND, b_MD).mean())
