"""What a training leaves on disk so that it goes on where it was, whatever ended it.

    FOLDER/
      training/00000120/      the state after step 120: state.safetensors and state.json
      training/reference.json dpo: log-probabilities without the adapter (`references`)
      epochs/001/             the adapter after an epoch
      adapter/, result.json   when it is done
      metrics.csv

Knows no torch. Invariant: every folder appears by one rename when its content is on disk, and the
state before it is removed after that: at any moment the newest state is whole.
"""

import csv
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from firefront.core.disk import disk_errors, make_folder, sync_folder
from firefront.core.errors import RequestError, StorageFullError
from firefront.tuning.adapter_file import write_json
from firefront.tuning.events import Evaluation, Metrics, TrainResult
from firefront.weights.quant import dequantize
from firefront.weights.safetensors import SafetensorsFile
from firefront.weights.write_safetensors import write_safetensors

Arrays = dict[str, NDArray[np.float32]]
_TRAINING, _EPOCHS, _ADAPTER, _RESULT = "training", "epochs", "adapter", "result.json"
_HIDDEN = ".partial-"  # before the name of what is not whole, or not any more
_STATE, _PROGRESS = "state.safetensors", "state.json"
_COLUMNS = (*Metrics.__struct_fields__, "valid_loss")


class Progress(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How far a training is: `step` are done, the last may have its evaluation still before it.
    `first_losses` and `last_losses` are of steps, `num_worse` counts evaluations since the best."""

    step: int = 0
    is_eval_due: bool = False
    trained_tokens: int = 0
    valid_loss: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    num_worse: int = 0
    stopped_early: bool = False
    grad_norm: float = 0.0
    first_losses: list[float] = []
    last_losses: list[float] = []
    warned: list[str] = []


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`identity`: digests of what is trained on what, by name."""

    identity: dict[str, str]
    progress: Progress


class Checkpoints:
    """The folder of one training; `identity` says which."""

    def __init__(self, folder: Path, identity: Mapping[str, str]) -> None:
        self._folder = folder
        self._identity = dict(identity)
        with disk_errors():
            make_folder(folder / _TRAINING)
            make_folder(folder / _EPOCHS)
            for place in (folder, folder / _TRAINING, folder / _EPOCHS):
                for left in place.glob(f"{_HIDDEN}*"):  # by whoever was killed here
                    _remove(left)
        self._check_identity()

    def load(self) -> tuple[Progress, Arrays] | None:
        """The newest state, None if there is none."""
        newest = max(self._states(), default=None)
        if newest is None:
            return None
        state = msgspec.json.decode((newest / _PROGRESS).read_bytes(), type=_State)
        return state.progress, _read(newest / _STATE)

    def save(self, progress: Progress, arrays: Arrays) -> None:
        """Make this the newest state. StorageFullError: the one before it is still there."""

        def write(folder: Path) -> None:
            write_safetensors(folder / _STATE, arrays)
            write_json(folder / _PROGRESS, msgspec.to_builtins(_State(self._identity, progress)))

        older = list(self._states())
        target = self._folder / _TRAINING / f"{progress.step:08d}"
        if target in older:
            return  # the same state, by the same steps
        try:
            _publish(target, write)
        except StorageFullError as error:
            kept = max((path.name for path in older), default="")
            after = f"the one after step {int(kept)} is kept" if kept else "there is none before it"
            raise StorageFullError(
                f"the checkpoint after step {progress.step} does not fit, {after}; free some "
                f"space and resume ({error.message})"
            ) from None
        for path in older:
            _remove(path)

    @property
    def reference(self) -> Path:
        """The file of dpo's reference."""
        return self._folder / _TRAINING / "reference.json"

    def save_epoch(self, epoch: int, write: Callable[[Path], None]) -> Path:
        """The adapter after an epoch."""
        return _publish(self._folder / _EPOCHS / f"{epoch:03d}", write)

    def finish(self, result: TrainResult, write: Callable[[Path], None]) -> TrainResult:
        """The adapter that is the outcome; `result` with its place, found again by `result`."""
        path = _publish(self._folder / _ADAPTER, write)
        result = msgspec.structs.replace(result, adapter=path)
        with disk_errors():
            partial = self._folder / f"{_HIDDEN}{_RESULT}"
            write_json(
                partial,
                {
                    "identity": self._identity,
                    **msgspec.to_builtins(result, builtin_types=(), enc_hook=str),
                },
            )
            os.rename(partial, self._folder / _RESULT)
            sync_folder(self._folder)
        _remove(self._folder / _TRAINING)
        return result

    def result(self) -> TrainResult | None:
        """How it ended, if it did."""
        path = self._folder / _RESULT
        if not path.exists():
            return None
        _remove(self._folder / _TRAINING)  # by whoever was killed before he did
        fields = msgspec.json.decode(path.read_bytes())
        del fields["identity"]
        return msgspec.convert(fields, TrainResult, dec_hook=lambda type, value: type(value))

    def _check_identity(self) -> None:
        """RequestError if the folder is of another training."""
        newest = max(self._states(), default=None)
        if (path := self._folder / _RESULT).exists():
            found = msgspec.json.decode(path.read_bytes())["identity"]
        elif newest is not None:
            state = msgspec.json.decode((newest / _PROGRESS).read_bytes(), type=_State)
            found = state.identity
        else:
            return
        other = [name for name, digest in self._identity.items() if found.get(name) != digest]
        if other:
            raise RequestError(
                f"{self._folder}: holds a training of other {' and '.join(other)}; "
                "use a new folder",
                param="folder",
            )

    def _states(self) -> list[Path]:
        return [path for path in (self._folder / _TRAINING).glob("[0-9]*") if path.is_dir()]


class MetricsFile:
    """metrics.csv: a line a step and one an evaluation, which has no train_loss. What was written
    after the state that is resumed is dropped."""

    def __init__(self, path: Path, progress: Progress) -> None:
        kept: list[Sequence[str]] = [_COLUMNS]
        if path.exists():
            *lines, _ = path.read_text().split("\n")  # the last has no end: it was cut off
            kept += [row for row in csv.reader(lines[1:]) if _is_before(row, progress)]
        with disk_errors():
            partial = path.with_name(f"{_HIDDEN}{path.name}")
            partial.write_text("".join(",".join(row) + "\n" for row in kept))
            os.rename(partial, path)
            self._file = open(path, "a", encoding="utf-8")

    def add(self, event: Metrics | Evaluation) -> None:
        values = [getattr(event, name, "") for name in _COLUMNS]
        texts = [f"{value:.6g}" if isinstance(value, float) else value or "" for value in values]
        with disk_errors():
            self._file.write(",".join(map(str, texts)) + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def _is_before(row: Sequence[str], progress: Progress) -> bool:
    """Whether the step or evaluation of a line was done in this state."""
    step, is_evaluation = int(row[0]), not row[_COLUMNS.index("train_loss")]
    return step < progress.step or (
        step == progress.step and not (is_evaluation and progress.is_eval_due)
    )


def _publish(target: Path, write: Callable[[Path], None]) -> Path:
    """A folder with what `write` puts in it, at once; one of that name is replaced."""
    partial = target.with_name(f"{_HIDDEN}{target.name}")
    with disk_errors():
        try:
            partial.mkdir(mode=0o700)
            write(partial)
            sync_folder(partial)
            if target.exists():
                _remove(target)
            os.rename(partial, target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_folder(target.parent)
    return target


def _remove(path: Path) -> None:
    """Take the name away at once, then the content."""
    if path.is_dir():
        if not path.name.startswith(_HIDDEN):
            hidden = path.with_name(f"{_HIDDEN}old-{path.name}")
            os.rename(path, hidden)
            path = hidden
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _read(path: Path) -> Arrays:
    file = SafetensorsFile(path)
    try:
        return {name: dequantize(tensor) for name, tensor in file.tensors.items()}
    finally:
        file.close()
