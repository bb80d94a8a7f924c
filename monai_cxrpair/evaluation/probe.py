"""The linear probe: converged logistic regression on frozen embeddings.

The paper takes 95 epochs of Adam (section 4), which stop it short of convergence and so act as its penalty.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from monai_cxrpair.errors import CxrPairError

# Inverse penalty of scikit-learn for 20 to 400 labels and 512 standardised features. Measured on 18 settings of the two
# NIH sets (random-convolution, pixel and label-bearing features, 50 to 400 labels, 12 draws each): mean AUC 0.739 and
# at most 0.022 below the best of the five, against 0.735 / 0.056 for 1e-3, 0.740 / 0.030 for 3e-3, 0.723 / 0.072
# for 1e-1, and 0.733 / 0.051 where cross-validation chose among them.
DEFAULT_C = 1e-2
GRID = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
# Below this many rows of either class cross-validation is a coin toss: the default is used, and no threshold is given.
MIN_PER_CLASS = 10
FOLDS = 5
OUT_OF_FOLD = "out-of-fold predictions of the training draw, folds by patient"
# lbfgs stops at this many steps; standardised and penalised problems need 10 to 100.
_MAX_ITER = 2000
# Below this many values a step takes less time than waking a second thread; on a busy machine that wait made a refit of
# 1,000 studies eight times slower.
_FEW_VALUES = 2**22


class LinearProbe:
    """Standardise, then logistic regression with an L2 penalty.

    Args:
        c: inverse strength of the penalty as in scikit-learn. None: chosen inside the draw by patient-grouped
            cross-validation (log loss, ties to the stronger penalty) where there are at least ten rows of each class,
            `DEFAULT_C` else. With 50 to 400 labels that choice is no better than the default and often worse.
        grid: the values to choose from.
        folds: folds of the cross-validation, at least 2; fewer where a class has fewer patients.
        seed: of the folds.

    Attributes:
        c: the value used; None before `fit` where it is to be chosen.
        c_source: `fixed` or `cross-validated`.
    """

    def __init__(
        self, *, c: float | None = DEFAULT_C, grid: Sequence[float] = GRID, folds: int = FOLDS, seed: int = 0
    ) -> None:
        for value in (*grid, *(() if c is None else (c,))):
            if not (np.isfinite(value) and value > 0):
                raise CxrPairError(f"LinearProbe: c must be a number above 0, got {value}")
        if folds < 2:
            raise CxrPairError(f"LinearProbe: folds must be at least 2, got {folds}")
        self.c = c
        self.c_source = "fixed"
        self._given = c
        self._grid = tuple(sorted(grid))
        self._folds = folds
        self._seed = seed
        self._linear: tuple[NDArray[np.float64], float] | None = None

    def fit(self, embeddings: ArrayLike, labels: ArrayLike, patients: ArrayLike) -> Self:
        """Learn from one draw.

        Args:
            embeddings: (n, F) finite.
            labels: (n,) 0 or 1, both there.
            patients: (n,) patient codes: no patient is on two sides of a fold.

        Returns:
            The probe itself.
        """
        x, y, groups = _checked(embeddings, labels, patients)
        self.c, self.c_source = self._given, "fixed"
        if self.c is None:
            self.c = DEFAULT_C
            losses = [self._out_of_fold_loss(x, y, groups, c) for c in self._grid]
            finite = [(loss, c) for loss, c in zip(losses, self._grid, strict=True) if loss is not None]
            if finite:
                self.c, self.c_source = min(finite)[1], "cross-validated"
        self._linear = _fit_linear(x, y, self.c)
        return self

    def predict_proba(self, embeddings: ArrayLike) -> NDArray[np.float64]:
        """Probability that the finding is present.

        Args:
            embeddings: (N, F).

        Returns:
            (N,) in [0, 1].
        """
        weight, bias = self.as_linear()
        return _sigmoid(_logits(embeddings, weight, bias))

    def as_linear(self) -> tuple[NDArray[np.float64], float]:
        """The probe as one linear layer, the standardisation folded in.

        Returns:
            weight (F,) and bias: `sigmoid(embeddings @ weight + bias)` is `predict_proba`.
        """
        if self._linear is None:
            raise CxrPairError("LinearProbe: call fit before predict_proba or as_linear")
        return self._linear

    def out_of_fold(self, embeddings: ArrayLike, labels: ArrayLike, patients: ArrayLike) -> NDArray[np.float64] | None:
        """Probabilities of the rows given to `fit`, each from a model that saw no row of the same patient.

        They are the validation side of a draw: thresholds and temperatures are chosen on them without a label from
        elsewhere.

        Args:
            embeddings: (n, F) the rows given to `fit`.
            labels: (n,).
            patients: (n,).

        Returns:
            (n,) in [0, 1], by the penalty of `fit`; None where there are fewer than ten rows of a class or only one
            patient of it.
        """
        x, y, groups = _checked(embeddings, labels, patients)
        if self.c is None:
            raise CxrPairError("LinearProbe: call fit before out_of_fold")
        logits = self._out_of_fold(x, y, groups, self.c)
        return None if logits is None else _sigmoid(logits)

    def _out_of_fold_loss(
        self, x: NDArray[np.float64], y: NDArray[np.bool_], groups: NDArray[np.int64], c: float
    ) -> float | None:
        logits = self._out_of_fold(x, y, groups, c)
        return None if logits is None else float(log_loss(y, _sigmoid(logits)))

    def _out_of_fold(
        self, x: NDArray[np.float64], y: NDArray[np.bool_], groups: NDArray[np.int64], c: float
    ) -> NDArray[np.float64] | None:
        """Logits (n,) from models that saw no row of the same patient; None where there is too little to learn from."""
        if min(y.sum(), (~y).sum()) < MIN_PER_CLASS:
            return None
        folds = min(self._folds, len(np.unique(groups[y])), len(np.unique(groups[~y])))
        if folds < 2:
            return None
        logits = np.empty(len(y))
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=self._seed)
        for learn, hold in splitter.split(x, y, groups):
            if y[learn].all() or not y[learn].any():  # a class sits in one big patient
                return None
            logits[hold] = _logits(x[hold], *_fit_linear(x[learn], y[learn], c))
        return logits


def _fit_linear(x: NDArray[np.float64], y: NDArray[np.bool_], c: float) -> tuple[NDArray[np.float64], float]:
    """Standardise and fit, folded into one weight (F,) and bias."""
    scaler = StandardScaler().fit(x)  # a constant feature gets scale 1
    with threadpool_limits(1 if x.size < _FEW_VALUES else None, user_api="blas"):
        model = LogisticRegression(C=c, max_iter=_MAX_ITER).fit(scaler.transform(x), y)
    weight = model.coef_[0] / scaler.scale_
    return weight, float(model.intercept_[0] - weight @ scaler.mean_)


def _logits(embeddings: ArrayLike, weight: NDArray[np.float64], bias: float) -> NDArray[np.float64]:
    x = np.asarray(embeddings, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != len(weight):
        raise CxrPairError(f"LinearProbe: embeddings must be (N, {len(weight)}), got {x.shape}")
    logits: NDArray[np.float64] = x @ weight + bias
    return logits


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    # tanh does not overflow for large negative logits, exp does.
    result: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * logits))
    return result


def _checked(
    embeddings: ArrayLike, labels: ArrayLike, patients: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    x, y, groups = np.asarray(embeddings, dtype=np.float64), np.asarray(labels), np.asarray(patients)
    if x.ndim != 2 or y.shape != (len(x),) or groups.shape != (len(x),):
        raise CxrPairError(
            f"LinearProbe: embeddings (n, F), labels (n,) and patients (n,) do not match: {x.shape}, {y.shape}, "
            f"{groups.shape}"
        )
    if not np.isfinite(x).all():
        raise CxrPairError(
            f"LinearProbe: {int((~np.isfinite(x)).any(axis=1).sum())} of {len(x)} embeddings hold NaN or infinity"
        )
    if not np.isin(y, (0, 1)).all() or len(np.unique(y)) != 2:
        raise CxrPairError(
            f"LinearProbe: labels must be 0 and 1, both there; got {np.unique(y)[:5].tolist()} in {len(y)} rows"
        )
    return x, y == 1, groups
