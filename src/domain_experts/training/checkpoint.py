"""State of an unfinished run: one safetensors file, whole or absent."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from domain_experts.errors import UserError
from domain_experts.files import replacing


@dataclass(frozen=True)
class Checkpoint:
    """Where the run with the given store key keeps its last epoch."""

    path: Path
    key: str

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Replace the checkpoint. `state` must be JSON."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        text = json.dumps(state)
        metadata = {"key": self.key, "state": text, "sha256": _digest(tensors, text)}
        with replacing(self.path) as temporary:
            save_file(tensors, temporary, metadata)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last epoch's tensors and state; None if there is none.

        Raises:
            UserError: the file is damaged, or belongs to another run.
        """
        if not self.path.exists():
            return None
        remedy = f"remove it (rm '{self.path}') and run again: the run starts afresh"
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
        except (SafetensorError, OSError) as error:
            raise UserError(f"checkpoint {self.path} is damaged ({error}); {remedy}") from None
        if metadata.get("key") != self.key:
            raise UserError(f"checkpoint {self.path} belongs to another run; {remedy}")
        if metadata["sha256"] != _digest(tensors, metadata["state"]):
            raise UserError(f"checkpoint {self.path} is damaged (checksum); {remedy}")
        return tensors, json.loads(metadata["state"])


def _digest(tensors: dict[str, Tensor], state: str) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
