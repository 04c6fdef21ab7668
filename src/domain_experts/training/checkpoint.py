"""State of an unfinished run: one safetensors file, whole or absent."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from domain_experts.errors import UserError
from domain_experts.files import UNSEALED, check_seal, replacing

SECONDS_BETWEEN = 20.0
"""What a killed run may lose; to write every epoch would cost more than it saves."""


class Timer:
    """Seconds since a run last saved, or began."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        self._start = self._clock()

    def seconds(self) -> float:
        return self._clock() - self._start


def afresh(path: Path) -> str:
    """What mends a checkpoint, in words."""
    return f"remove it (rm '{path}') and run again: the run starts afresh"


@dataclass(frozen=True)
class Checkpoint:
    """Where the run with the given store key keeps its state, now and then."""

    path: Path
    key: str
    timer: Timer = field(default_factory=Timer)

    def part(self, name: object) -> "Checkpoint":
        """That of one of the run's models, which share the timer."""
        return replace(self, path=self.path.with_stem(f"{self.path.stem}-{name}"))

    def due(self) -> bool:
        """Whether the run would lose enough to be worth a checkpoint."""
        return self.timer.seconds() >= SECONDS_BETWEEN

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Replace the checkpoint. `state` must be JSON."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"key": self.key, "state": json.dumps(state), **UNSEALED}
        with replacing(self.path, sealed=True) as temporary:
            save_file(tensors, temporary, metadata)
        self.timer.restart()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and state last saved; None if there are none.

        Raises:
            UserError: the file is damaged, or belongs to another run.
        """
        if not self.path.exists():
            return None
        remedy = afresh(self.path)
        check_seal(self.path, remedy)
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
        except (SafetensorError, OSError) as error:
            raise UserError(f"checkpoint {self.path} is damaged ({error}); {remedy}") from None
        if metadata.get("key") != self.key:
            raise UserError(f"checkpoint {self.path} belongs to another run; {remedy}")
        return tensors, json.loads(metadata["state"])
