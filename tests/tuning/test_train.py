"""Training: against PEFT on the same files, whatever interrupts it, and what it refuses."""

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from firefront.core.errors import RequestError, StorageFullError
from firefront.tuning import batches, checkpoints, learner
from firefront.tuning.adapter_file import write_adapter
from firefront.tuning.alarms import new_alarms, note_loss
from firefront.tuning.batches import packs
from firefront.tuning.checkpoints import Progress
from firefront.tuning.events import (
    Evaluation,
    Event,
    Metrics,
    Notice,
    TrainingError,
    TrainResult,
)
from firefront.tuning.examples import Example
from firefront.tuning.learner import Learner
from firefront.tuning.objectives import Dpo, Objective, Supervised
from firefront.tuning.settings import LoraSettings, OptimizerSettings, TrainConfig
from firefront.tuning.train import load_model, train
from firefront.weights.adapter import open_adapter
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.layout import adapter_shapes
from tests.tuning.training import CONFIG, adapter_bytes, metrics, pairs, rows, save_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"))


def changed(config: TrainConfig = CONFIG, **changes: Any) -> TrainConfig:
    return msgspec.structs.replace(config, **changes)


def with_optimizer(**changes: Any) -> TrainConfig:
    return changed(optimizer=msgspec.structs.replace(CONFIG.optimizer, **changes))


def new_learner(base: Path, config: TrainConfig = CONFIG, noise: float = 0.0) -> Learner:
    """With an adapter that does something, if asked for."""
    found = Learner(load_model(base, torch.float32), config)
    generator = torch.Generator().manual_seed(5)
    for _, _, b, _ in found.lora.modules():
        b.normal_(generator=generator).mul_(noise)
    return found


def peft_model(base: Path, adapter: Path) -> Any:
    import peft
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(model, adapter, is_trainable=True)


def sums(model: Any, example: Example) -> torch.Tensor:
    """The weighted log-probability of an example's labels, by transformers."""
    ids = torch.from_numpy(example.token_ids.astype(np.int64))
    scores = torch.log_softmax(model(ids[None]).logits[0, :-1], -1)
    found: torch.Tensor = scores.gather(1, ids[1:, None])[:, 0]
    return (found * torch.from_numpy(example.label_weights[1:])).sum()


def test_steps_equal_pefts(base: Path, tmp_path: Path) -> None:
    """Losses and gradient norms of ten steps of AdamW beside PEFT's, from the same start."""
    ours = new_learner(base)
    tmp_path.joinpath("start").mkdir()
    write_adapter(tmp_path / "start", ours.modules(), CONFIG.lora, str(base))
    model = peft_model(base, tmp_path / "start")
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.0)
    examples = rows(40)
    groups = [(example,) for example in examples]
    for step in range(10):
        numbers = np.arange(4 * step, 4 * step + 4)
        rate = CONFIG.optimizer.rate(step, 10, "supervised")
        outcome = ours.step(groups, numbers, Supervised(), rate, lambda: True)
        loss = -sum(sums(model, examples[i]) for i in numbers) / 8
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, CONFIG.optimizer.max_grad_norm)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        assert outcome.loss == pytest.approx(loss.item(), rel=1e-3)
        assert outcome.grad_norm == pytest.approx(norm.item(), rel=1e-2)
        assert outcome.losses.mean() == pytest.approx(loss.item(), rel=1e-3)


def test_dpo_equals_the_papers_formula(base: Path, tmp_path: Path) -> None:
    """Loss and gradient of a batch, the reference by PEFT with its adapter off."""
    config = changed(method="dpo", beta=0.3)
    ours = new_learner(base, config, noise=0.2)
    tmp_path.joinpath("start").mkdir()
    write_adapter(tmp_path / "start", ours.modules(), config.lora, str(base))
    model = peft_model(base, tmp_path / "start")
    groups = pairs(6)
    reference = ours.reference(groups, lambda: True)
    losses = []
    for i, (better, worse) in enumerate(groups):
        with torch.no_grad(), model.disable_adapter():
            off = [sums(model, example) for example in (better, worse)]
        assert reference[i] == pytest.approx([value.item() for value in off], rel=1e-4)
        margin = (sums(model, better) - off[0]) - (sums(model, worse) - off[1])
        losses.append(-torch.log(torch.sigmoid(0.3 * margin)))
    loss = torch.stack(losses).mean()
    loss.backward()
    parameters = [p for p in model.parameters() if p.requires_grad]
    norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in parameters]))
    outcome = ours.step(groups, np.arange(6), Dpo(0.3, reference), 1e-4, lambda: True)
    assert outcome.loss == pytest.approx(loss.item(), rel=1e-4)
    assert outcome.grad_norm == pytest.approx(norm.item(), rel=1e-3)
    row_losses = dict(zip(outcome.numbers.tolist(), outcome.losses.tolist(), strict=True))
    assert [row_losses[i] for i in range(6)] == pytest.approx(
        [value.item() for value in losses], rel=1e-3
    )


@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_a_batch_is_the_same_however_it_is_cut(
    base: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = new_learner(base, changed(method=method), noise=0.1)
    groups = pairs(8) if method == "dpo" else [(example,) for example in rows(8)]
    reference = np.zeros((8, 2), np.float32)
    objective: Objective = Dpo(0.1, reference) if method == "dpo" else Supervised()
    found = []
    for size in (40, 70, 10_000):
        monkeypatch.setattr(learner, "packs", lambda g, n, size=size: packs(g, n, size))
        outcome = ours.step(groups, np.arange(8), objective, 0.0, lambda: True)
        found.append(
            (len(list(packs(groups, np.arange(8), size))), outcome, ours.lora.grads.clone())
        )
    assert [num for num, _, _ in found][-1] == 1 and found[0][0] > found[1][0] > 1
    for _, outcome, grads in found[:-1]:
        assert outcome.loss == pytest.approx(found[-1][1].loss, rel=1e-5)
        assert torch.allclose(grads, found[-1][2], rtol=1e-3, atol=1e-6)


def test_a_long_prompt_is_computed_once_for_many_rows() -> None:
    prompt = list(range(100))
    weights = np.zeros(102, np.float32)
    weights[101] = 1
    examples = [
        Example(np.array([*prompt, 200 + i, 201], np.int32), weights, 101) for i in range(40)
    ]
    cut = list(packs([(example,) for example in examples], np.arange(40), 64))
    assert [len(pack.numbers) for pack in cut] == [40]


@pytest.mark.parametrize(("dtype", "rel"), [("float32", 1e-4), ("bfloat16", 0.02)])
def test_it_learns_and_peft_reads_what_it_wrote(
    base: Path, tmp_path: Path, dtype: Any, rel: float
) -> None:
    events: list[Event] = []
    valid, config = rows(12, seed=9), changed(dtype=dtype)
    result = train(base, rows(48), valid, config, tmp_path, events.append)
    steps = [event for event in events if isinstance(event, Metrics)]
    assert [event.step for event in steps] == list(range(1, 25)) and result.steps == 24
    assert steps[0].train_loss > 4 and result.valid_loss is not None and result.valid_loss < 2
    assert result.trained_tokens == 2 * sum(len(example.token_ids) for example in rows(48))
    assert result.adapter == tmp_path / "adapter" and result.status == "succeeded"
    model = peft_model(base, tmp_path / "adapter")
    with torch.no_grad():
        loss = -sum(sums(model, example) for example in valid) / 24
    assert loss.item() == pytest.approx(result.valid_loss, rel=rel)
    with open_checkpoint(base) as checkpoint:
        read = open_adapter(tmp_path / "adapter", adapter_shapes(checkpoint.config))
    assert read.rank == 4 and len(read.parts) == 21
    assert {part.scale for part in read.parts.values()} == {2.0}
    assert sorted(path.name for path in (tmp_path / "epochs").iterdir()) == ["001", "002"]
    # A finished one is found again, without training.
    assert train(base, rows(48), valid, config, tmp_path, pytest.fail) == result
    with pytest.raises(RequestError, match="a training of other rows and settings; use a new"):
        train(base, rows(47), valid, changed(seed=1), tmp_path)


def test_preferences_are_learned(base: Path, tmp_path: Path) -> None:
    config = changed(
        method="dpo", num_epochs=5, optimizer=OptimizerSettings(learning_rate=0.01), patience=0
    )
    events: list[Event] = []
    result = train(base, pairs(48), pairs(8, seed=3), config, tmp_path, events.append)
    steps = [event for event in events if isinstance(event, Metrics)]
    assert steps[0].train_loss == pytest.approx(np.log(2), rel=1e-4)
    assert steps[-1].accuracy == 1.0 and steps[-1].train_loss < 0.3
    assert result.valid_loss is not None and result.valid_loss < 0.62


def test_a_reference_is_computed_once_for_each_row(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the first of two trainings, but for the rows that only the second has."""
    computed: list[int] = []
    real = Learner.reference

    def counted(self: Learner, groups: Any, go: Any) -> Any:
        computed.append(len(groups))
        return real(self, groups, go)

    monkeypatch.setattr(Learner, "reference", counted)
    config, shared = changed(method="dpo", num_epochs=1), tmp_path / "reference.json"
    train(base, pairs(12), pairs(4, seed=3), config, tmp_path / "a", reference=shared)
    first = shared.read_bytes()
    train(base, pairs(16), pairs(4, seed=3), config, tmp_path / "b", reference=shared)
    assert computed == [12, 4, 4]
    train(base, pairs(16), pairs(4, seed=3), config, tmp_path / "own")
    assert computed == [12, 4, 4, 16, 4] and not (tmp_path / "own" / "training").exists()
    shared.write_bytes(first)
    train(base, pairs(12), [], config, tmp_path / "again", reference=shared)
    train(base, pairs(12), [], config, tmp_path / "alone")
    assert adapter_bytes(tmp_path / "again") == adapter_bytes(tmp_path / "alone")


def test_pausing_anywhere_changes_nothing(base: Path, tmp_path: Path) -> None:
    """Told to pause at every third look, and obeying another number of threads at each."""
    config = changed(num_epochs=1, eval_every=2)
    train(base, rows(24), rows(9, seed=2), config, tmp_path / "straight")
    looks, statuses = count(1), []
    threads: list[int] = []

    def num_threads() -> int:
        threads.append(1 + len(threads) % 2)
        return threads[-1]

    before = torch.get_num_threads()
    try:
        while not statuses or statuses[-1] != "succeeded":
            result = train(
                base,
                rows(24),
                rows(9, seed=2),
                config,
                tmp_path / "paused",
                wanted=lambda: "run" if next(looks) % 3 else "pause",
                num_threads=num_threads,
            )
            statuses.append(result.status)
            if result.status == "paused":
                assert torch.get_num_threads() == threads[-1] and result.adapter is None
    finally:
        torch.set_num_threads(before)
    assert len(statuses) >= 4 and set(statuses) == {"paused", "succeeded"}
    assert adapter_bytes(tmp_path / "paused") == adapter_bytes(tmp_path / "straight")
    assert metrics(tmp_path / "paused") == metrics(tmp_path / "straight")


def test_a_cancelled_one_writes_nothing_more(base: Path, tmp_path: Path) -> None:
    seen: list[Event] = []
    result = train(
        base, rows(24), [], CONFIG, tmp_path, seen.append,
        wanted=lambda: "cancel" if len(seen) == 5 else "run",
    )  # fmt: skip
    assert result.status == "cancelled" and result.steps == 5 and result.adapter is None
    assert not (tmp_path / "adapter").exists() and not (tmp_path / "result.json").exists()
    assert [path.name for path in (tmp_path / "training").iterdir()] == ["00000003"]


def test_killed_at_any_point_it_ends_the_same() -> None:
    """In a process of its own, which starts trainings and kills them: see the program."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.tuning.killing"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert told["num_killed"] >= 12 and told["points"] >= 10


def test_training_ends_when_the_held_out_loss_rises(base: Path, tmp_path: Path) -> None:
    """Labels are noise, so more of it helps nobody; the adapter is the best one's."""
    rng = np.random.default_rng(0)
    noisy = rows(16)
    for example in noisy:
        example.token_ids[-2] = rng.integers(2, 10)
    config = changed(num_epochs=30, patience=2)
    events: list[Event] = []
    result = train(base, noisy, rows(16, seed=4), config, tmp_path, events.append)
    checks = [event for event in events if isinstance(event, Evaluation)]
    best = min(checks, key=lambda event: event.valid_loss)
    assert result.stopped_early and result.steps < result.num_steps
    assert [event.is_best for event in checks[-2:]] == [False, False]
    assert (result.best_step, result.valid_loss) == (best.step, best.valid_loss)
    weights = (tmp_path / "epochs" / f"{best.epoch:03d}" / "adapter_model.safetensors").read_bytes()
    assert weights == adapter_bytes(tmp_path)


@pytest.fixture
def poisoned(base: Path, tmp_path: Path) -> Iterator[Path]:
    """A model with a token whose embedding is not finite."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "poisoned"
    folder.mkdir()
    tensors = load_file(base / "model.safetensors")
    tensors["model.embed_tokens.weight"][201] = float("inf")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    folder.joinpath("config.json").write_bytes((base / "config.json").read_bytes())
    yield folder


def test_killed_after_the_result_it_leaves_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    files = checkpoints.Checkpoints(tmp_path, {"rows": "a"})
    files.save(Progress(step=3), {"values": np.zeros(4, np.float32)})
    result = TrainResult(
        status="succeeded", steps=3, num_steps=3, trained_tokens=1, train_loss=1.0,
        valid_loss=None, best_step=None, stopped_early=False, hard_rows=(),
    )  # fmt: skip
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoints, "_remove", killed)
        files.finish(result, lambda folder: None)
    found = checkpoints.Checkpoints(tmp_path, {"rows": "a"}).result()
    assert found is not None and found.adapter == tmp_path / "adapter"
    assert not list(tmp_path.rglob("state*"))


def test_a_row_that_poisons_the_loss_is_named(poisoned: Path, tmp_path: Path) -> None:
    data = rows(24)
    data[17].token_ids[-4] = 201
    with pytest.raises(TrainingError, match="the rows at lines 18 is not a number") as raised:
        train(poisoned, data, [], CONFIG, tmp_path / "run")
    assert raised.value.lines == [18]
    with pytest.raises(TrainingError, match="the rows at lines 18 is not a number"):
        train(poisoned, rows(24), data, CONFIG, tmp_path / "validated")


@pytest.mark.parametrize(
    ("losses", "norm", "told"),
    [
        ([2.0 + 0.1 * step for step in range(60)], 1.0, ["the loss rises"]),
        ([2.0 - 0.01 * step for step in range(60)], 1.0, []),
        ([0.0002] * 3, 1.0, ["the loss is 0.0002 before anything was learned"]),
        ([2.0] * 3, 0.0, ["the gradient is zero"]),
    ],
)
def test_signs_of_learning_nothing(losses: list[float], norm: float, told: list[str]) -> None:
    progress, found = Progress(), []
    for loss in losses:
        progress.step += 1
        note_loss(progress, loss, norm)
        found += new_alarms(progress)
    assert [text[: len(told[0])] for text in found] == told


def test_a_flat_loss_is_told_once(base: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    config = changed(with_optimizer(learning_rate=1e-9), num_epochs=8)
    train(base, rows(24), [], config, tmp_path, events.append)
    [notice] = [event for event in events if isinstance(event, Notice)]
    assert notice.level == "warn" and "the loss does not fall" in notice.message


def test_rows_that_stay_hard_are_named(base: Path, tmp_path: Path) -> None:
    data = rows(48)
    data[30].token_ids[-2:] = [150, 151]
    result = train(base, data, [], changed(num_epochs=3), tmp_path)
    assert [row.line for row in result.hard_rows] == [31]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda e: e.token_ids.__setitem__(3, 203),
            "line 5: a token is not one of the model's 203",
        ),
        (lambda e: e.label_weights.fill(0), "line 5: it has no labelled token"),
        (lambda e: e.label_weights.__setitem__(-1, np.nan), "line 5: .* weight that is no number"),
        (lambda e: e.label_weights.__setitem__(0, 1), "line 5: its first token is labelled"),
    ],
)
def test_examples_that_cannot_be_used(
    base: Path, tmp_path: Path, change: Any, problem: str
) -> None:
    data = rows(8)
    change(data[4])
    with pytest.raises(TrainingError, match=problem) as raised:
        train(base, data, [], CONFIG, tmp_path)
    assert raised.value.lines == [5]


def test_rows_of_another_method_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="supervised takes rows, line 1 is something else"):
        train(base, pairs(2), [], CONFIG, tmp_path)
    with pytest.raises(RequestError, match="dpo takes pairs"):
        train(base, rows(2), [], changed(method="dpo"), tmp_path)
    with pytest.raises(RequestError, match="no rows"):
        train(base, [], [], CONFIG, tmp_path)


def test_a_full_disk_keeps_the_checkpoint_before(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(base, rows(24), [], CONFIG, tmp_path / "straight")
    real = checkpoints.write_json

    def write_json(path: Path, value: Any) -> None:
        if value.get("progress", {}).get("step") == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, value)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "write_json", write_json)
        with pytest.raises(StorageFullError, match="after step 6 does not fit, .* step 3 is kept"):
            train(base, rows(24), [], CONFIG, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "training").iterdir()] == ["00000003"]
    train(base, rows(24), [], CONFIG, tmp_path / "run")
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(tmp_path / "straight")


def test_every_epoch_has_every_row_once() -> None:
    epochs = []
    for epoch in range(2):
        steps = range(epoch * 4, epoch * 4 + 4)
        epochs.append(np.concatenate([batches.rows_of_step(14, s, 4, 7) for s in steps]))
        assert sorted(epochs[-1]) == list(range(14))
    assert epochs[0].tolist() != epochs[1].tolist()
    assert batches.rows_of_step(14, 3, 4, None).tolist() == [12, 13]


def test_the_learning_rate_rises_and_falls() -> None:
    for schedule, middle in (("linear", 0.5), ("cosine", 0.5)):
        settings = OptimizerSettings(learning_rate=1.0, schedule=schedule, warmup=0.2)
        rates = [settings.rate(step, 10, "supervised") for step in range(10)]
        assert rates[:3] == [0.5, 1.0, 1.0] and rates[6] == pytest.approx(middle)
        assert rates[2:] == sorted(rates[2:], reverse=True) and rates[-1] > 0
    assert OptimizerSettings(warmup=0).rate(0, 10, "dpo") == 2e-5


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: TrainConfig(batch_size=0), "batch_size: 0, expected 1 to 4096"),
        (lambda: LoraSettings(rank=257), "lora.rank: 257, expected 1 to 256"),
        (lambda: LoraSettings(targets=()), "lora.targets: name a module"),
        (lambda: OptimizerSettings(learning_rate=float("nan")), "learning_rate: nan, expected"),
    ],
)
def test_settings_have_limits(make: Any, problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        make()
