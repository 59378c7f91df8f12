"""A job's process whose work is played: short steps, a state on disk now and then.

The model's path is a folder; files in it make the trainer misbehave: `nan` (a row of line 3),
`full` (no room), `crash` (an error of ours), `busy` (the store is, once), `die` (the process ends),
`die_late` (in step 5 of the training itself), `die_saving` (before a state is on disk), `hold` (no
step is made), `deaf` (it does not stop). What it was told of threads goes into `threads`, what was
evaluated into `evaluated`; `bad`: a row that cannot be evaluated.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firefront.core.deployment import Deployment
from firefront.core.errors import OverloadedError, StorageFullError
from firefront.tuning.adapter_file import write_adapter
from firefront.tuning.events import EpochSaved, Evaluation, Metrics, TrainingError, TrainResult
from firefront.tuning.jobs.canary import Parity
from firefront.tuning.jobs.work import ModelFacts, Parts
from firefront.tuning.jobs.worker import main
from firefront.tuning.line_files import replacing
from tests.gateway.fake_worker import TurnTokenizer
from tests.tuning.jobs.fake_evaluation import evaluate

STEP_S = 0.02


def train(
    model_path: str,
    train_examples: Sequence[Any],
    valid_examples: Sequence[Any],
    config: Any,
    folder: Path,
    on_event: Callable[[Any], None],
    wanted: Callable[[], str],
    num_threads: Callable[[], int],
    reference: Path,
) -> TrainResult:
    folder.mkdir(parents=True, exist_ok=True)
    misbehave(Path(model_path))
    epoch_len = -(-len(train_examples) // config.batch_size)
    num_steps = epoch_len * config.num_epochs
    state = folder / "state.json"
    step = json.loads(state.read_bytes())["step"] if state.exists() else 0
    result: dict[str, Any] = {"steps": step, "num_steps": num_steps, "trained_tokens": step * 10}
    while step < num_steps:
        if wanted() != "run" and not (Path(model_path) / "deaf").exists():
            keep(state, step)
            return TrainResult(status="paused" if wanted() == "pause" else "cancelled", **result)
        with (Path(model_path) / "threads").open("a") as file:
            file.write(f"{num_threads()}\n")
        time.sleep(STEP_S)
        if (Path(model_path) / "hold").exists():
            continue
        step += 1
        if step == 5 and folder.name == "training":
            die_if(Path(model_path) / "die_late")
        loss = loss_of(step, config)
        on_event(
            Metrics(step=step, epoch=1, train_loss=loss, learning_rate=1e-3, grad_norm=1.0,
                    tokens=10, tokens_s=100.0)
        )  # fmt: skip
        if step % epoch_len == 0:
            on_event(Evaluation(step=step, epoch=1, valid_loss=loss, is_best=True))
            path = save(folder / "epochs" / f"{step:03d}", step, config)
            on_event(EpochSaved(step=step, epoch=step // epoch_len, path=path, train_loss=loss,
                                valid_loss=loss))  # fmt: skip
        if step % config.save_every == 0:
            die_if(Path(model_path) / "die_saving")
            keep(state, step)
    adapter = save(folder / "adapter", step, config)
    keep(state, step)  # what is finished is not trained again
    (folder / "metrics.csv").write_text("step,train_loss,valid_loss,learning_rate\n1,2,,3\n")
    return TrainResult(
        status="succeeded", steps=step, num_steps=num_steps, trained_tokens=step * 10,
        valid_loss=loss_of(step, config), best_step=step, adapter=adapter,
    )  # fmt: skip


def keep(state: Path, step: int) -> None:
    with replacing(state) as file:
        file.write(json.dumps({"step": step}).encode())


def loss_of(step: int, config: Any) -> float:
    return config.lora.rank / 10 / step


def save(folder: Path, step: int, config: Any) -> Path:
    """An adapter that appears by one rename."""
    if not folder.exists():
        part = folder.with_name(f".{folder.name}.{os.getpid()}")
        part.mkdir(parents=True)
        a = np.full((2, 4), step, np.float32)
        write_adapter(part, [("model.layers.0.mlp.up_proj", a, a.T.copy())], config.lora, "base")
        part.rename(folder)
    return folder


def misbehave(model: Path) -> None:
    if (model / "nan").exists():
        raise TrainingError("the loss of the rows at lines 3 is not a number", [3])
    if (model / "full").exists():
        raise StorageFullError("the checkpoint after step 4 does not fit; free some space")
    if (model / "crash").exists():
        raise ZeroDivisionError
    if (model / "busy").exists():
        (model / "busy").unlink()
        raise OverloadedError("the database is busy", retry_after_s=1.0)
    die_if(model / "die")


def die_if(told: Path) -> None:
    if told.exists():
        os._exit(9)


def check_parity(base: Deployment, adapter: Path, examples: Any) -> Parity:
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    return Parity(num_tokens=10, base_kl=1e-4, adapter_kl=1e-4, effect=0.1)


if __name__ == "__main__":
    sys.exit(
        main(
            Parts(
                load_tokenizer=lambda path: TurnTokenizer(),
                facts=lambda path: ModelFacts(max_len=512, width=64),
                train=train,
                evaluate=evaluate,
                check_parity=check_parity,
            )
        )
    )
