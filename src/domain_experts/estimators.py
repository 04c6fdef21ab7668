"""The arms as scikit-learn estimators."""

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)
from tqdm.auto import tqdm

from domain_experts.data.log.reader import of_table
from domain_experts.errors import UserError
from domain_experts.fitting import fitted, held_out
from domain_experts.own_model import OwnModel
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.suggest import unknown
from domain_experts.tables import Dense, Domain, Fields, as_labels, as_table, columns_of, is_table
from domain_experts.training.progress import Progress

ONE_DOMAIN = "all"
"""The domain of all rows where none is named."""


class Bar(Progress):
    """Training as a progress bar, in terminals and notebooks; what it has to say are warnings."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self.bar = tqdm(desc=title, unit=" epochs", disable=None, leave=False)

    def trained(
        self,
        leg: str,
        epoch: float,
        epochs: float,
        rows: int,
        seconds: float,
        best: float,
        left: int,
    ) -> None:
        """Move the bar; with a new leg it says so."""
        # the bar stands in for the lines now and then
        self._last_line = time.monotonic()
        super().trained(leg, epoch, epochs, rows, seconds, best, left)
        self.bar.set_description_str(f"{self.title} {leg}", refresh=False)
        self.bar.set_postfix_str(f"validation AUC {best:.4f}", refresh=False)
        self.bar.update(round(epochs, 3))

    def say(self, message: str) -> None:
        """Warn."""
        warnings.warn(f"{self.title}: {message}", stacklevel=2)


# scikit-learn has no types
class ArmClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An arm of the registry that is fitted on rows in memory.

    Args:
        seed: of the held-out rows and all that training draws.
        settings: dotted setting of params.yaml to its value, as `{"model.hidden": [64, 32]}`; a
            key `arm/setting` is of one arm alone among those that start from one another.

    Attributes:
        classes_: the two labels, the second being the positive one; with several tasks a list.
        n_features_in_: columns of X.
        feature_names_in_: their names, if X had some.
        model_: what scores and is saved.
        record_: what training left beside the weights: rows, parameters, curve.
    """

    arm: ClassVar[str]
    own_backbone: ClassVar[str] = NO_BACKBONE

    def __init__(self, seed: int = 0, settings: Mapping[str, Any] | None = None) -> None:
        self.seed = seed
        self.settings = settings

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        domain: Domain | None = None,
        fields: Fields | None = None,
        dense: Dense | None = None,
        validation: float = 0.1,
    ) -> Self:
        """Train on rows; the arms that this one starts from are trained first.

        Every column of X is used. Floats are dense; texts, booleans, integers, categories and lists
        of ids are fields, and so is the domain; `fields` and `dense` go before that.

        Args:
            X: (N, P): a table of pandas, Polars or pyarrow, or an array, whose columns are named
                x0, x1, and so on.
            y: (N,) labels of two values, or (N, T) of several tasks.
            sample_weight: (N,) what rows count in the loss; metrics are unweighted.
            domain: column with the domain, or the keys of a study's `domain` (`column`, `min_rows`,
                `rare`); without it all rows are of one.
            fields: columns that hold ids, or a mapping from field to the keys of a study's `fields`
                (`column`, `min_count`, `hash`, `multi`, `most`).
            dense: columns that hold numbers, or the keys of a study's `dense` of each (`column`,
                `transform`).
            validation: share of the rows, spread over domains and labels, that select the best
                epoch.

        Raises:
            ValueError: X, y or sample_weight are not of such a kind.
            UserError: a column, setting or backbone is unknown, or the rows do not fit the arm.
        """
        table = self._table(X, reset=True)
        labels, tasks = self._labels(y, table)
        weight = self._weight(sample_weight, table)
        if not 0 < validation < 1:
            raise UserError(f"validation is {validation}; give a share above 0 and below 1")
        if known := sorted({*tasks} & {*table.column_names}):
            raise UserError(
                f"y and X both have a column '{known[0]}': take it out of X, or rename y"
            )
        constants = {}
        if domain is None:
            domain = _free("domain", table.column_names)
            constants = {domain: ONE_DOMAIN}
        whole = table.append_column(domain, pa.repeat("", len(table))) if constants else table
        columns = columns_of(whole, domain, fields, dense, {task: task for task in tasks})
        numbers = np.zeros(len(table), np.int64)
        if not constants:
            names = table[columns.domain.column].to_pandas()
            numbers = pd.factorize(names, use_na_sentinel=False)[0]
        encoder, rows = of_table(
            table,
            columns,
            labels,
            held_out(labels, numbers, validation, self.seed),
            weight,
            constants,
        )
        bar = Bar(type(self).__name__)
        with bar.bar:
            found = fitted(
                self.arm,
                self._backbone(),
                rows,
                self._settings(),
                self.seed,
                self._device(),
                bar,
            )
        self.record_ = dict(found.made.record)
        self.model_ = OwnModel.of(found, encoder)
        return self

    def save(self, folder: str | Path) -> None:
        """Keep the model as a folder, which `load` opens; it gives what `predict_proba` gives.

        Raises:
            NotFittedError: `fit` comes first.
            UserError: the folder holds something else.
        """
        check_is_fitted(self)
        self.model_.save(folder)

    def predict_proba(self, X: Any) -> np.ndarray | list[np.ndarray]:
        """Probabilities (N, 2) of the two labels; with several tasks a list of such.

        Ids that no training row had have the code of rare ones.

        Raises:
            NotFittedError: `fit` comes first.
            ValueError: X has other columns than in training.
            UserError: a domain had no training rows, and there is none for rare ones.
        """
        check_is_fitted(self)
        positive = self.model_.probabilities(self._table(X, reset=False)).astype(np.float64)
        both = [np.column_stack([1 - p, p]) for p in positive.T]
        return both if isinstance(self.classes_, list) else both[0]

    def predict(self, X: Any) -> np.ndarray:
        """The more probable labels, (N,), or (N, T) of several tasks.

        Raises:
            NotFittedError, ValueError, UserError: as `predict_proba`.
        """
        found = self.predict_proba(X)
        if not isinstance(found, list):
            labels: np.ndarray = self.classes_[found.argmax(1)]
            return labels
        own = zip(self.classes_, found, strict=True)
        return np.column_stack([classes[p.argmax(1)] for classes, p in own])

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn needs to know of the estimator."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    def _table(self, X: Any, reset: bool) -> pa.Table:
        """The rows with the names of the training rows' columns."""
        if is_table(X):
            table = as_table(X)
            # scikit-learn knows names of pandas' tables alone
            names = pd.DataFrame(columns=table.column_names)
            validate_data(self, names, reset=reset, skip_check_array=True)
            if not len(table):
                raise ValueError(
                    f"Found array with 0 sample(s) (shape={table.shape}) while a minimum of 1 is "
                    "required."
                )
        else:
            array = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan")
            table = as_table(array)
        if reset:
            self._columns = table.column_names
        return table.rename_columns(self._columns)

    def _labels(self, y: Any, table: pa.Table) -> tuple[np.ndarray, tuple[str, ...]]:
        """(N, T) uint8, and the tasks; sets `classes_`."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        found: dict[str, np.ndarray] = {}
        codes = []
        for task, given in as_labels(y).items():
            labels = column_or_1d(
                check_array(
                    given, ensure_2d=False, dtype=None, ensure_all_finite=given.dtype != object
                ),
                warn=True,
            )
            check_consistent_length(table, labels)
            check_classification_targets(labels)
            classes, number = np.unique(labels, return_inverse=True)
            if len(classes) > 2:
                raise ValueError(
                    "Only binary classification is supported. The type of the target "
                    f"'{task}' is {type_of_target(labels)}."
                )
            if len(classes) < 2:
                raise ValueError(
                    f"{type(self).__name__} needs labels of two classes, but '{task}' has only one "
                    f"class: {classes[0]!r}"
                )
            found[task] = classes
            codes.append(number)
        self.classes_ = [*found.values()] if len(found) > 1 else next(iter(found.values()))
        return np.column_stack(codes).astype(np.uint8), tuple(found)

    def _weight(self, sample_weight: Any, table: pa.Table) -> np.ndarray | None:
        if sample_weight is None:
            return None
        if "training" not in ARMS[self.arm].reads:
            raise UserError(f"{type(self).__name__} does not weight rows: leave sample_weight out")
        rows = np.zeros((len(table), 1), np.float32)
        checked = _check_sample_weight(
            sample_weight, rows, ensure_non_negative=True, ensure_same_device=False
        )
        return np.asarray(checked, np.float32)

    def _backbone(self) -> str:
        return self.own_backbone

    def _settings(self) -> dict[str, Any]:
        return dict(self.settings or {})

    def _device(self) -> str:
        return "cpu"


class TrainedArm(ArmClassifier):
    """One that is trained in epochs.

    Args:
        epochs: cap on epochs of each training; None: that of params.yaml, 100. The best epoch on
            validation rows is kept, and training ends three after it.
        seed: as in `ArmClassifier`.
        settings: likewise.
        device: cpu or cuda.
    """

    def __init__(
        self,
        epochs: int | None = None,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(seed, settings)
        self.epochs = epochs
        self.device = device

    def _settings(self) -> dict[str, Any]:
        capped = {} if self.epochs is None else {"training.max_epochs": self.epochs}
        return capped | super()._settings()

    def _device(self) -> str:
        if self.device not in ("cpu", "cuda"):
            raise UserError(unknown("device", self.device, ("cpu", "cuda")))
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("device is 'cuda', but torch finds no GPU; give cpu")
        return self.device


class ArmOnBackbone(TrainedArm):
    """One that is trained in epochs on a backbone.

    Args:
        backbone: mlp, wdl, nfm, autoint, pnn, deepfm, fibinet, xdeepfm or dcn.
        epochs: as in `TrainedArm`.
        seed: likewise.
        settings: likewise.
        device: likewise.
    """

    def __init__(
        self,
        backbone: str = "mlp",
        epochs: int | None = None,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(epochs, seed, settings, device)
        self.backbone = backbone

    def _backbone(self) -> str:
        known = [name for name, backbone in BACKBONES.items() if backbone.family == "ctr"]
        if self.backbone not in known:
            raise UserError(unknown("backbone", self.backbone, known))
        return self.backbone


def _free(name: str, taken: list[str]) -> str:
    while name in taken:
        name += "_"
    return name


NAMES = {
    "ItemRate": "item_rate",
    "UserItemRate": "user_item_rate",
    "LogisticRegression": "logistic_regression",
    "FactorisationMachine": "factorisation_machine",
    "FieldAwareFM": "field_aware_fm",
    "LightGBM": "lightgbm",
    "Base": "base",
    "MLoRA": "mlora",
    "Experts": "experts",
    "MoEMLoRA": "moe_mlora",
    "UniformGate": "uniform_gate",
    "MoEMLoRAHeldOut": "moe_mlora_held_out",
    "MoEMLoRACrossfit": "moe_mlora_crossfit",
    "MLoRAGated": "mlora_gated",
    "MoEMLoRAJoint": "moe_mlora_joint",
    "SharedLoRA": "shared_lora",
    "DomainFinetune": "domain_finetune",
    "STAR": "star",
    "DomainNegotiation": "domain_negotiation",
    "MAMDR": "mamdr",
    "AutoIFS": "autoifs",
}
"""Class -> arm."""
MODELS = {
    "M3oE": "m3oe",
    "SharedBottom": "shared_bottom",
    "MMoE": "mmoe",
    "PLE": "ple",
    "AdaTT": "adatt",
    "AdaTTSp": "adatt_sp",
    "M2M": "m2m",
    "HiNet": "hinet",
    "PEPNet": "pepnet",
    "EPNet": "epnet",
    "PPNet": "ppnet",
    "HAMUR": "hamur",
    "AdaSparse": "adasparse",
    "SARNet": "sarnet",
    "AdaptDHM": "adaptdhm",
    "APG": "apg",
    "HierRec": "hierrec",
    "AITM": "aitm",
    "CrossStitch": "cross_stitch",
    "SNR": "snr",
    "ESMM": "esmm",
    "ESCM2": "escm2",
    "SmallHeads": "small_heads",
    "PLATE": "plate",
    "MFH": "mfh",
    "HoME": "home",
    "DomainHeads": "domain_heads",
    "DomainBias": "domain_bias",
    "DomainFeature": "domain_feature",
    "HMoE": "hmoe",
    "AESM2": "aesm2",
}
"""Class -> multi-domain multi-task model, of which there is one for all domains and tasks."""


def _estimator(name: str, arm: str, backbone: str = NO_BACKBONE) -> type[ArmClassifier]:
    spec = ARMS[arm]
    if "training" not in spec.reads:
        base: type[ArmClassifier] = ArmClassifier
    elif spec.backbone and backbone == NO_BACKBONE:
        base = ArmOnBackbone
    else:
        base = TrainedArm
    label = BACKBONES[backbone].label if backbone != NO_BACKBONE else spec.label
    words = (base.__doc__ or "").partition("\n")[2]
    return type(
        name,
        (base,),
        {
            "arm": arm,
            "own_backbone": backbone,
            "__doc__": f"{label} as a scikit-learn classifier.\n{words}",
            "__module__": __name__,
        },
    )


ESTIMATORS: dict[str, type[ArmClassifier]] = {
    **{name: _estimator(name, arm) for name, arm in NAMES.items()},
    **{name: _estimator(name, "mdmt", model) for name, model in MODELS.items()},
}
"""By name; each is in this module, too."""
globals().update(ESTIMATORS)
