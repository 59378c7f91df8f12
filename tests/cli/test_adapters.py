"""`firefront adapters`: in the store, and over the API of a server that runs."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from firefront import LLM, SamplingParams
from firefront.cli import adapter_places
from firefront.cli.main import main
from firefront.core.errors import ModelFileError
from firefront.engine.parity import Parity
from firefront.gateway.registering import open_contents
from firefront.store.store import Store
from firefront.text.tokenizer import load_tokenizer
from firefront.weights.adapter import open_adapter
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.layout import adapter_shapes
from tests.adapter_files import random_adapter
from tests.gateway.live import Live
from tests.gateway.test_adapters import folder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    monkeypatch.setenv("FIREFRONT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(adapter_places, "DEFAULT_URL", "http://127.0.0.1:1")

    def run(*args: str) -> tuple[int, str, str]:
        status = main(["adapters", *args])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    yield run


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    server = Live(tmp_path, "one", "two").start()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base called `tiny` with two adapters made by PEFT, and one for another shape."""
    from tests.peft_adapters import make_adapter
    from tests.tiny import tiny_model

    place = tmp_path_factory.mktemp("models")
    model = tiny_model("llama")
    model.save(place / "tiny")
    make_adapter(model.model, place / "first", r=4, target_modules=["q_proj", "down_proj"])
    make_adapter(model.model, place / "second", seed=1, r=2)
    other = tiny_model("llama", hidden_size=96)
    make_adapter(other.model, place / "other")
    return place


def test_without_a_server(tiny: Path, run: Run, tmp_path: Path) -> None:
    base = str(tiny / "tiny")
    status, out, _ = run("ls")
    assert status == 0 and out.startswith("no adapters yet")
    status, out, err = run("load", "mine", str(tiny / "first"), "--model", base, "--pin")
    assert (status, err) == (0, "")
    assert out.startswith("tiny:mine: rank 4 on down_proj, q_proj; served as soon as")
    status, out, _ = run("load", "tiny:b", str(tiny / "second"), "--model", base, "--json")
    assert status == 0 and json.loads(out)["rank"] == 2
    status, _, err = run("load", "mine", str(tiny / "second"), "--model", base)
    assert status == 1 and "tiny has an adapter 'mine' already" in err
    assert run("load", "mine", str(tiny / "second"), "--model", base, "--replace")[0] == 0
    status, out, _ = run("ls", "--json")
    found = {facts["model"]: facts for facts in json.loads(out)["adapters"]}
    assert list(found) == ["tiny:b", "tiny:mine"]
    assert found["tiny:mine"]["sha256"] == found["tiny:b"]["sha256"]
    status, out, _ = run("rm", "mine", "tiny:b")
    assert (status, out) == (0, "removed tiny:mine\nremoved tiny:b\n")
    store = Store.open(None, tmp_path / "home")
    open_contents(store)  # what was replaced goes when a server starts
    left = [path for path in store.adapter_folder.iterdir() if not path.name.startswith(".")]
    assert left == [] and store.adapters.list("local").items == []
    store.close()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["x", "first"], "--model: say which base it is for"),
        (["a/b", "first", "--model", "tiny"], "name: must be up to 100 letters"),
        (["other:x", "first", "--model", "tiny"], "names another base than tiny"),
        (["x", "nowhere", "--model", "tiny"], "does not exist"),
        (["x", "tiny", "--model", "tiny"], "adapter_config.json: file: is missing"),
        (["x", "other", "--model", "tiny"], "adapter_model.safetensors: "),
        (["x", "first", "--model", "starter"], "run: firefront pull starter"),
        (["x", "first", "--model", "tiny", "--url", "ftp://x"], "must start with http"),
        (["x", "first", "--url", "http://127.0.0.1:1"], "is the server running?"),
    ],
)
def test_errors_are_one_line(
    tiny: Path, run: Run, args: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny)
    status, out, err = run("load", *args)
    assert (status, out) == (1, "") and message in err and len(err.splitlines()) == 1


def test_names_that_are_not_there_or_not_clear(tiny: Path, run: Run) -> None:
    for name in ("one", "two"):
        (tiny / name).symlink_to(tiny / "tiny")
        assert run("load", "x", str(tiny / "first"), "--model", str(tiny / name))[0] == 0
    status, _, err = run("rm", "x")
    assert status == 1 and "say one:x or two:x" in err
    assert "no adapter 'y'" in run("rm", "y")[2]
    assert run("rm", "one:x", "--json")[1].split() == ["{", '"removed":', "[", '"one:x"', "]", "}"]


def test_with_a_server(
    run: Run, tmp_path: Path, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(folder(tmp_path / "a"))
    status, out, err = run("load", "x", path, "--model", "one", "--url", live.url)
    assert status == 0, err
    assert out == f"one:x: rank 8 on q_proj, v_proj; served now at {live.url}\n"
    monkeypatch.setattr(adapter_places, "DEFAULT_URL", live.url)
    assert run("load", "two:x", path, "--pin")[0] == 0  # found where servers usually are
    status, _, err = run("load", "two:x", path)
    assert status == 1 and "has already been loaded" in err
    found = json.loads(run("ls", "--json")[1])["adapters"]
    assert [(facts["model"], facts["is_pinned"]) for facts in found] == [
        ("one:x", False), ("two:x", True),
    ]  # fmt: skip
    assert live.sdk().completions.create(model="two:x", prompt="x").model == "two:x"
    assert run("rm", "two:x", "x")[1] == "removed two:x\nremoved one:x\n"
    assert "NAME FOLDER" in run("ls", "--url", f"{live.url}/v1")[1]


def test_exported_files_are_those_that_were_loaded(tiny: Path, run: Run, tmp_path: Path) -> None:
    """And the GGUF, loaded again, is the same adapter."""
    base, first = str(tiny / "tiny"), tiny / "first"
    assert run("load", "mine", str(first), "--model", base)[0] == 0
    output = tmp_path / "new" / "copy"
    status, out, err = run("export", "mine", "-o", str(output))
    assert (status, out, err) == (0, f"wrote {output} (peft)\n", "")
    names = ["adapter_config.json", "adapter_model.safetensors"]
    assert sorted(path.name for path in output.iterdir()) == names
    assert all((output / name).read_bytes() == (first / name).read_bytes() for name in names)
    assert run("load", "again", str(output), "--model", base)[0] == 0
    file = tmp_path / "a.gguf"
    arguments = ["export", "tiny:mine", "--format", "gguf", "--model", base, "-o", str(file)]
    status, out, err = run(*arguments, "--json")
    assert (status, json.loads(out)["left_out"], err) == (0, [], "")
    status, out, err = run("load", "back", str(file), "--model", base)
    assert status == 0 and out.startswith("tiny:back: rank 4 on down_proj, q_proj; ")
    found = {facts["name"]: facts for facts in json.loads(run("ls", "--json")[1])["adapters"]}
    assert found["again"]["sha256"] == found["mine"]["sha256"] != found["back"]["sha256"]
    back = tmp_path / "back"
    assert run("export", "back", "-o", str(back))[0] == 0
    with open_checkpoint(base) as checkpoint:
        shapes = adapter_shapes(checkpoint.config)
    ours, theirs = open_adapter(back, shapes), open_adapter(first, shapes)
    assert ours.parts.keys() == theirs.parts.keys()
    for name, part in ours.parts.items():
        other = theirs.parts[name]
        assert part.scale == other.scale
        assert np.array_equal(part.a, other.a) and np.array_equal(part.b, other.b)


def test_an_export_never_destroys(
    tiny: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(tiny / "tiny")
    with_template = tmp_path / "template"
    shutil.copytree(tiny / "first", with_template)
    (with_template / "chat_template.jinja").write_text("{{ messages }}")
    assert run("load", "mine", str(with_template), "--model", base)[0] == 0
    place = tmp_path / "place"
    (place / "full").mkdir(parents=True)
    (place / "full" / "thesis.txt").write_text("years")
    (place / "note").write_text("a note")
    (place / "link").symlink_to(place / "full")
    gguf = ["--format", "gguf", "--model", base]
    for arguments, message in (
        (["-o", str(place / "full")], "exists; name another path, or take its place with"),
        (["-o", str(place / "note"), *gguf], "exists; name another path, or take its place with"),
        (["-o", str(place / "full"), "--replace"], "more in it than an adapter (thesis.txt)"),
        (["-o", str(place / "note"), "--replace"], "is no folder; name one"),
        (["-o", str(place / "link"), "--replace"], "is no folder; name one"),
        (["-o", str(place / "full"), "--replace", *gguf], "is no file; name one"),
        (["-o", str(place / "note"), "--replace", *gguf], "is not GGUF; name another file"),
        (["-o", "/", "--replace"], "more in it than an adapter"),
        (["-o", str(place / "note" / "x")], "place/note: File exists"),
        (["-o", str(place / "x"), "--format", "onnx"], "--format onnx: must be peft or gguf"),
        (["-o", str(place / "x"), "--dtype", "f16"], "--dtype f16: must be f32 or f16, and is for"),
        (["-o", str(place / "x"), *gguf, "--model", str(tiny / "other")], "config.json"),
    ):
        status, out, err = run("export", "mine", *arguments)
        assert (status, out) == (1, "") and message in err and len(err.splitlines()) == 1, err
    assert "no adapter 'y'" in run("export", "y", "-o", str(place / "x"))[2]
    assert sorted(path.name for path in place.iterdir()) == ["full", "link", "note"]
    assert (place / "full" / "thesis.txt").read_text() == "years"
    copy, file = place / "copy", place / "mine.gguf"
    for _ in range(2):
        assert run("export", "mine", "-o", str(copy), "--replace")[0] == 0
        status, out, _ = run("export", "mine", "-o", str(file), "--replace", *gguf)
        assert status == 0 and "chat_template.jinja has no place in it" in out
    assert (copy / "chat_template.jinja").exists() and file.read_bytes().startswith(b"GGUF")

    def fail(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    before = file.read_bytes()
    for arguments in (["-o", str(copy)], ["-o", str(file), *gguf, "--dtype", "f16"]):
        status, _, err = run("export", "mine", *arguments, "--replace")
        assert status == 1 and "No space left on device" in err
    assert file.read_bytes() == before and len(list(copy.iterdir())) == 3
    left = ["copy", "full", "link", "mine.gguf", "note"]
    assert sorted(path.name for path in place.iterdir()) == left


def test_a_gguf_adapter_is_named_as_the_file(tiny: Path, run: Run, tmp_path: Path) -> None:
    base, file = str(tiny / "tiny"), tmp_path / "place" / "a.gguf"
    assert run("load", "mine", str(tiny / "first"), "--model", base)[0] == 0
    arguments = ["export", "mine", "--format", "gguf", "--model", base, "-o", str(file)]
    assert run(*arguments)[0] == 0
    status, _, err = run("load", "x", str(file.parent), "--model", base)
    assert status == 1 and "to load a GGUF adapter name the file itself, a.gguf" in err
    status, _, err = run("load", "x", str(tiny / "first"), "--model", str(file))
    assert status == 1 and "this is an adapter; load it with: firefront adapters load" in err
    with pytest.raises(ModelFileError, match="taken in by firefront adapters load"):
        open_adapter(file, {})
    file.write_bytes(file.read_bytes()[:-40])
    status, _, err = run("load", "x", str(file), "--model", base)
    assert status == 1 and "incomplete or damaged" in err and len(err.splitlines()) == 1


def test_merged_it_is_a_model_of_its_own(
    run: Run, starter_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a GGUF to a folder that transformers reads: weights, tokenizer, template."""
    random_adapter(starter_path, tmp_path / "a")
    base, output = str(starter_path), tmp_path / "merged" / "here"
    (tmp_path / "text").write_text("The sky is blue because of the way the air scatters light.")
    assert run("load", "a", str(tmp_path / "a"), "--model", base)[0] == 0
    arguments = ["merge", "a", "--model", base, "--output", str(output)]
    for extra, message in (
        (["--format", "onnx"], "--format onnx: must be safetensors or gguf"),
        (["--dtype", "q4_0"], "--dtype q4_0: must be bf16, f16 or f32"),
        (["--text", "/nowhere"], "--text /nowhere: "),
        (["--output", str(tmp_path)], "exists; name a folder that does not"),
    ):
        status, _, err = run(*arguments, *extra)
        assert status == 1 and message in err and len(err.splitlines()) == 1
    monkeypatch.setattr(Parity, "is_lost", True)
    status, _, err = run(*arguments, "--text", str(tmp_path / "text"))
    assert status == 1 and "loses the adapter" in err
    assert not output.exists() and list(output.parent.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setenv("FIREFRONT_HOME", str(tmp_path / "home"))
    status, out, err = run(
        *arguments, "--format", "safetensors", "--text", str(tmp_path / "text"), "--json"
    )
    assert status == 0, err
    report = json.loads(out)
    assert report == json.loads((output / "parity.json").read_text())
    assert report["kl_merged"] < 1e-3 < 0.1 < report["kl_base"] and report["dtype"] == "bf16"
    ours, written = load_tokenizer(starter_path), load_tokenizer(output)
    theirs = transformers.AutoTokenizer.from_pretrained(output)
    chat = [{"role": "user", "content": "Hello,  wörld 123!"}]
    assert ours.encode_chat(chat) == written.encode_chat(chat)
    rendered = theirs.apply_chat_template(chat, add_generation_prompt=True)
    assert ours.encode_chat(chat) == rendered["input_ids"]
    token_ids = ours.encode("The sky is blue")
    model = transformers.AutoModelForCausalLM.from_pretrained(output, dtype="float32")
    with torch.no_grad():
        wanted = model(torch.tensor([token_ids])).logits[0, -1].argmax().item()
    llm = LLM(str(output), context=64, activations="f32")
    params = SamplingParams(temperature=0, max_tokens=1)
    [answer] = llm.generate([token_ids], params)
    assert answer.outputs[0].token_ids == [wanted]
