"""What is known of a run, by name: its metrics, made here, and others; imports nothing heavy.

A new metric is one line of METRICS. An experiment of params.yaml may take its differences in any of
COMPARED, and show any of SHOWN.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from domain_experts.evaluation.metrics import Predictions

METRICS: dict[str, Callable[["Predictions"], float | None]] = {
    "wauc": lambda of: of.mean(of.auc, of.rows),
    "macro_auc": lambda of: of.mean(of.auc),
    "log_loss": lambda of: of.mean(of.by_domain(of.losses), of.rows),
    "calibration": lambda of: of.predicted.sum() / of.positives.sum() if of.labels.any() else None,
    "binned_wauc": lambda of: of.mean(of.binned_auc, of.rows),
}
"""Of one task, over all domains; NaN or None where undefined."""

GATE = (
    *("gate_own_group", "gate_own_group_chance", "gate_own_expert", "gate_own_expert_chance"),
    "gate_on_moved",
)
NEW_DOMAIN = ("new_domain_auc", "new_domain_rows")
COMPARED = (*METRICS, "macro_log_loss", *GATE, *NEW_DOMAIN)
SEARCHED = ("wauc", "macro_auc")
"""What a search may maximise on validation rows."""

AUCS = ("wauc", "macro_auc", "binned_wauc", "new_domain_auc")
"""Those that are an AUC or a mean of AUCs."""
ERRORS = ("wauc_se", "wauc_user_se", "macro_auc_se", "macro_auc_user_se")
"""Standard errors that the sample of test rows, or of test users, brings."""
DATA = ("bayes_wauc", "seen_users", "domains", "rows")
RECORD = ("parameters", "epochs_trained", "wall_s", "train_rows_per_s", "epochs", "peak_memory_mb")
TESTED = ("a_D", "a_T", "b_D", "b_T")
"""Scalars that tested models expose."""
SHOWN = (*COMPARED, *ERRORS, *DATA, *RECORD, *TESTED)
