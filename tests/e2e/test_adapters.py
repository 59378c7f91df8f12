"""Adapters on a real server: what they say is what the library says with them, alone and mixed,
while they come, go and change."""

import json
import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import safetensors.numpy

from firefront import LLM, SamplingParams
from tests.adapter_files import random_adapter
from tests.e2e.served import Served
from tests.gateway.live import wait_for

NUM_TOKENS = 12
QUESTIONS = ("Name the capital of France.", "Count to ten.", "What is a kettle?")


def chat_of(question: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}]


@pytest.fixture(scope="module")
def folders(starter_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters: of some linears, and of all."""
    place = tmp_path_factory.mktemp("adapters")
    linears = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()
    return {
        "a": random_adapter(starter_path, place / "a"),
        "b": random_adapter(starter_path, place / "b", seed=1, rank=16, targets=linears),
    }


@pytest.fixture(scope="module")
def wanted(starter_path: Path, folders: dict[str, Path]) -> dict[tuple[str, str], str]:
    """What the library says, by adapter ("" for none) and question."""
    llm = LLM(str(starter_path), context=512, threads=1)
    params = SamplingParams(temperature=0, max_tokens=NUM_TOKENS)
    said = {}
    for name, folder in {"": None, **folders}.items():
        chats = [chat_of(question) for question in QUESTIONS]
        outputs = llm.chat(chats, params, adapter=folder)
        for question, output in zip(QUESTIONS, outputs, strict=True):
            said[name, question] = output.outputs[0].text
    return said


def load(server: Served, name: str, folder: Path, **fields: Any) -> Any:
    body = {"lora_name": name, "lora_path": str(folder), **fields}
    return server.http().post("/v1/load_lora_adapter", json=body)


def model_of(server: Served, adapter: str) -> str:
    return f"{server.name}:{adapter}" if adapter else server.name


def ask(server: Served, adapter: str, question: str, *, stream: bool = False) -> str:
    options = {"temperature": 0, "max_tokens": NUM_TOKENS, "messages": chat_of(question)}
    create = server.sdk().chat.completions.create
    answer = create(model=model_of(server, adapter), stream=stream, **options)
    if not stream:
        return answer.choices[0].message.content
    return "".join(part.choices[0].delta.content or "" for part in answer if part.choices)


@pytest.fixture(scope="module")
def loaded(live: Served, folders: dict[str, Path]) -> Served:
    for name, folder in folders.items():
        assert load(live, name, folder).status_code == 200
    return live


def test_what_they_say_is_what_the_library_says(
    loaded: Served, wanted: dict[tuple[str, str], str]
) -> None:
    question = QUESTIONS[0]
    assert len({wanted[name, question] for name in ("", "a", "b")}) == 3
    for name in ("", "a", "b"):
        for stream in (False, True):
            assert ask(loaded, name, question, stream=stream) == wanted[name, question]


def test_many_at_once_are_as_alone(
    loaded: Served, wanted: dict[tuple[str, str], str]
) -> None:
    asked = list(wanted)
    with ThreadPoolExecutor(len(asked)) as pool:
        said = list(pool.map(lambda key: ask(loaded, *key, stream=key[0] == "a"), asked))
    assert said == [wanted[key] for key in asked]


def test_unloaded_in_mid_stream(
    loaded: Served, folders: dict[str, Path], wanted: dict[tuple[str, str], str]
) -> None:
    question, texts = QUESTIONS[1], []
    assert load(loaded, "passing", folders["a"]).status_code == 200
    stream = loaded.sdk().chat.completions.create(
        model=model_of(loaded, "passing"), messages=chat_of(question), temperature=0,
        max_tokens=NUM_TOKENS, stream=True,
    )  # fmt: skip
    for part in stream:
        if not texts:
            done = loaded.http().post("/v1/unload_lora_adapter", json={"lora_name": "passing"})
            assert done.status_code == 200
        texts.append(part.choices[0].delta.content or "")
    assert "".join(texts) == wanted["a", question]
    with pytest.raises(openai.NotFoundError, match="has no adapter 'passing'"):
        ask(loaded, "passing", question)


def test_replaced_under_its_name(
    loaded: Served, folders: dict[str, Path], wanted: dict[tuple[str, str], str]
) -> None:
    """What was computed with one is never a prefix for the other: their digests differ."""
    question = QUESTIONS[2]
    assert load(loaded, "x", folders["a"], is_pinned=True).status_code == 200
    for _ in range(2):  # the second finds the prefix of the first
        assert ask(loaded, "x", question) == wanted["a", question]
    texts: list[str] = []
    reader = threading.Thread(
        target=lambda: texts.append(ask(loaded, "x", QUESTIONS[1], stream=True))
    )
    reader.start()
    assert load(loaded, "x", folders["b"], load_inplace=True).status_code == 200
    assert ask(loaded, "x", question) == wanted["b", question]
    reader.join()
    assert texts[0] in (wanted["a", QUESTIONS[1]], wanted["b", QUESTIONS[1]])
    assert ask(loaded, "", question) == wanted["", question]
    wait_for(lambda: loaded.metric("firefront_num_adapters_resident") == 2, 10, loaded)
    loaded.sdk().models.delete(model_of(loaded, "x"))


def spoilt(source: Path, folder: Path, spoil: Any) -> Path:
    shutil.copytree(source, folder)
    spoil(folder)
    return folder


def change_tensors(change: Any) -> Any:
    def spoil(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        tensors = safetensors.numpy.load_file(file)
        name = next(name for name in tensors if "layers.7" in name and "lora_B" in name)
        tensors[name] = change(tensors[name])
        safetensors.numpy.save_file(tensors, file)

    return spoil


def set_config(**fields: Any) -> Any:
    def spoil(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (change_tensors(lambda b: np.concatenate([b, b])), "layers.7"),
        (change_tensors(lambda b: b * np.float32("nan")), "layers.7"),
        (set_config(use_dora=True), "use_dora"),
        (set_config(modules_to_save=["lm_head"]), "modules_to_save"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "adapter_config.json"),
        (lambda folder: (folder / "chat_template.jinja").write_text("{% if %}"), "chat_template"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    live: Served, folders: dict[str, Path], tmp_path: Path, spoil: Any, named: str
) -> None:
    before = [model.id for model in live.sdk().models.list()]
    answer = load(live, "bad", spoilt(folders["a"], tmp_path / "bad", spoil))
    assert answer.status_code == 400, answer.text
    assert named in answer.json()["error"]["message"]
    assert [model.id for model in live.sdk().models.list()] == before


def test_a_killed_replica_has_them_again(
    loaded: Served, wanted: dict[tuple[str, str], str]
) -> None:
    os.kill(loaded.replica_pids()[-1], signal.SIGKILL)
    wait_for(lambda: loaded.http().get("/readyz").status_code == 200, 60, loaded)
    for name in ("b", "a", ""):
        assert ask(loaded, name, QUESTIONS[0]) == wanted[name, QUESTIONS[0]]


def test_a_restart_keeps_what_was_not_deleted(
    starter_path: Path,
    folders: dict[str, Path],
    wanted: dict[tuple[str, str], str],
    tmp_path: Path,
) -> None:
    question = QUESTIONS[0]
    server = Served(tmp_path, f"file:{starter_path}", FIREFRONT_HOME=tmp_path / "home")
    server.start()
    for name, folder in folders.items():
        moved = shutil.copytree(folder, tmp_path / name)
        assert load(server, name, moved).status_code == 200
        shutil.rmtree(moved)  # the server has a copy
    server.sdk().models.delete(model_of(server, "b"))
    assert server.stop() == 0
    server.start()
    assert ask(server, "a", question) == wanted["a", question]
    with pytest.raises(openai.NotFoundError) as gone:
        ask(server, "b", question)
    assert gone.value.code == "model_not_found"
    assert server.stop() == 0
