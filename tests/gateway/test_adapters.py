"""Adapters over the API: loaded, named, listed, used, replaced, unloaded; on fake engines."""

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from firefront.core.deployment import Deployment
from firefront.core.errors import RequestError
from firefront.fleet.replica import Replica
from firefront.fleet.router import Router
from firefront.gateway.adapters import Adapters
from firefront.gateway.registering import AdapterFacts, BaseModel
from firefront.store.store import Store
from tests.gateway.live import Live, wait_for

HELLO = [{"role": "user", "content": "hello"}]


def folder(path: Path, text: str = "{}", template: str | None = None) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "adapter_config.json").write_text(text)
    (path / "adapter_model.safetensors").write_bytes(b"weights")
    if template is not None:
        (path / "chat_template.jinja").write_text(template)
    return path


def load(live: Live, name: str, path: Path, **fields: Any) -> Any:
    body = {"lora_name": name, "lora_path": str(path), **fields}
    return live.http().post("/v1/load_lora_adapter", json=body)


def unload(live: Live, name: str) -> Any:
    return live.http().post("/v1/unload_lora_adapter", json={"lora_name": name})


def said(live: Live, model: str, **fields: Any) -> str:
    answer = live.sdk().completions.create(model=model, prompt="x", max_tokens=12, **fields)
    return answer.choices[0].text


def listed(live: Live) -> list[str]:
    return [model.id for model in live.sdk().models.list()]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serves "one" and "two:b"; leave no adapter behind."""
    server = Live(tmp_path_factory.mktemp("adapters"), "one", "two:b").start()
    yield server
    assert server.stop() == 0


@pytest.fixture
def clean(two: Live) -> Iterator[Live]:
    yield two
    for name in listed(two)[2:]:
        two.sdk().models.delete(name)


def test_loaded_listed_used_and_unloaded_as_with_vllm(clean: Live, tmp_path: Path) -> None:
    path = folder(tmp_path / "a", '{"r": 16}')
    done = load(clean, "mine", path, base_model_name="one", is_pinned=True)
    assert done.status_code == 200
    assert done.text == "Success: LoRA adapter 'mine' added successfully."
    assert listed(clean) == ["one", "two:b", "one:mine"]
    card = clean.http().get("/v1/models/one:mine").json()
    assert card == clean.http().get("/v1/models").json()["data"][2]
    assert (card["parent"], card["max_model_len"]) == ("one", 2048)
    assert card["root"] == f"adapters/{card['adapter']['sha256']}"
    assert card["adapter"]["rank"] == 16 and card["adapter"]["targets"] == ["q_proj", "v_proj"]
    assert clean.http().get("/v1/models/mine").json() == card
    assert said(clean, "one:mine") == said(clean, "mine") != said(clean, "one")
    assert f"adapter mine {card['adapter']['sha256']} pinned" in clean.events
    done = unload(clean, "mine")
    assert done.status_code == 200
    assert done.text == "Success: LoRA adapter 'mine' removed successfully."
    assert listed(clean) == ["one", "two:b"]
    with pytest.raises(openai.NotFoundError) as gone:
        said(clean, "one:mine")
    assert gone.value.code == "model_not_found"


def test_every_api_family_answers_with_the_name_that_was_asked(
    clean: Live, tmp_path: Path
) -> None:
    assert load(clean, "one:mine", folder(tmp_path / "a")).status_code == 200
    sdk = clean.sdk(_strict_response_validation=True)
    claude = anthropic.Anthropic(base_url=clean.url, api_key="none", max_retries=0)
    for name in ("one:mine", "mine", "accounts/me/models/one:mine", "one:mine#d"):
        asked = name.removeprefix("accounts/me/models/").removesuffix("#d")
        chat = sdk.chat.completions.create(model=name, messages=HELLO, max_tokens=5)
        completion = sdk.completions.create(model=name, prompt="x", max_tokens=5)
        response = sdk.responses.create(model=name, input="hello", max_output_tokens=16)
        message = claude.messages.create(model=name, messages=HELLO, max_tokens=5)
        models = {chat.model, completion.model, response.model, message.model}
        assert models == {asked}
        streamed = sdk.chat.completions.create(
            model=name, messages=HELLO, max_tokens=5, stream=True
        )
        chunks = list(streamed)
        assert {chunk.model for chunk in chunks} == {asked}
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == chat.choices[0].message.content
    base = sdk.chat.completions.create(model="one", messages=HELLO, max_tokens=5)
    assert base.choices[0].message.content != chat.choices[0].message.content
    assert base.system_fingerprint != chat.system_fingerprint
    for path in ("/tokenize", "/detokenize", "/apply-template"):
        body = {"model": "one:mine", "tokens": [65], "messages": HELLO}
        if path == "/tokenize":
            del body["tokens"]
        assert clean.http().post(path, json=body).status_code == 200
    page = clean.http().get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json()
    assert [model["id"] for model in page["data"]] == ["one", "two:b", "one:mine"]


def test_one_name_on_two_bases(clean: Live, tmp_path: Path) -> None:
    path = folder(tmp_path / "a")
    assert load(clean, "x", path).status_code == 400  # which base?
    assert load(clean, "one:x", path).status_code == 200
    assert load(clean, "x", path, base_model_name="two:b").status_code == 200
    assert listed(clean)[2:] == ["one:x", "two:b:x"]
    with pytest.raises(openai.BadRequestError, match="say one:x or two:b:x"):
        said(clean, "x")
    assert clean.sdk().completions.create(model="two:b:x", prompt="x").model == "two:b:x"
    clean.sdk().models.delete("one:x")
    assert clean.sdk().completions.create(model="x", prompt="x").model == "x"


def test_deleted_as_a_tuned_model_is(clean: Live, tmp_path: Path) -> None:
    assert load(clean, "one:mine", folder(tmp_path / "a")).status_code == 200
    sdk = clean.sdk(_strict_response_validation=True)
    gone = sdk.models.delete("one:mine")
    assert (gone.id, gone.object, gone.deleted) == ("one:mine", "model", True)
    for use in (sdk.models.retrieve, sdk.models.delete):
        with pytest.raises(openai.NotFoundError, match="one has no adapter 'mine'") as missing:
            use("one:mine")
        assert missing.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"lora_name": None}, 400, "lora_name: "),
        ({"lora_name": ""}, 400, "Both 'lora_name' and 'lora_path' must be provided."),
        ({"lora_path": ""}, 400, "Both 'lora_name' and 'lora_path' must be provided."),
        ({"lora_path": 3}, 400, "lora_path: "),
        ({"lora_path": "/nowhere"}, 400, "/nowhere: folder: does not exist"),
        ({"lora_path": "~nobody-here/x"}, 400, "lora_path: no such user"),
        ({"lora_path": "a\0b"}, 400, "lora_path: must be a path"),
        ({"lora_path": "x/" * 3000}, 400, "lora_path: must be a path"),
        ({"lora_path": "/etc/passwd"}, 400, "is no folder"),
        ({"lora_path": "/etc"}, 400, "adapter_config.json: file: is missing"),
        ({"lora_name": "a/b"}, 400, "lora_name: must be up to 100"),
        ({"lora_name": "../x"}, 400, "lora_name: must be up to 100"),
        ({"lora_name": "x" * 100_000}, 400, "lora_name: must be up to 100"),
        ({"lora_name": "\ud800"}, 400, "half a surrogate pair"),
        ({"lora_name": "nobody:x", "base_model_name": None}, 404, "does not exist"),
        ({"lora_name": "two:b:x"}, 400, "lora_name: names another base than one"),
        ({"lora_name": "one"}, 400, "lora_name: 'one' is a base model's name"),
        ({"base_model_name": "nobody"}, 404, "does not exist"),
        ({"is_3d_lora_weight": True}, 400, "is_3d_lora_weight: "),
        ({"load_inplace": "yes"}, 400, "load_inplace: "),
    ],
)
def test_what_cannot_be_loaded(
    two: Live, tmp_path: Path, fields: dict[str, Any], status: int, message: str
) -> None:
    body = {
        "lora_name": "x",
        "lora_path": str(folder(tmp_path / "a")),
        "base_model_name": "one",
        **fields,
    }
    content = json.dumps(body).encode()
    answer = two.http().post("/v1/load_lora_adapter", content=content)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]["message"]
    assert listed(two) == ["one", "two:b"]


def test_a_wrong_name_is_said_of_what_named_it() -> None:
    """serve --adapter has no lora_name."""
    router = Router(Replica(name, Deployment(model=name)) for name in ("one", "two"))
    adapters = Adapters(router, {}, in_use=set)
    assert adapters.place("one:x", None, "--adapter") == (BaseModel("one", "one"), "x")
    for given, problem in (
        ("one:two", "--adapter: 'two' is a base model's name"),
        ("one:a/b", "--adapter: must be up to 100"),
        ("x", "--adapter: say which base, BASE:NAME; one of one, two"),
    ):
        with pytest.raises(RequestError, match=problem) as refused:
            adapters.place(given, None, "--adapter")
        assert refused.value.param == "--adapter"


def test_what_does_not_fit_the_base_leaves_nothing(two: Live, tmp_path: Path) -> None:
    before = set((two.home / "adapters").glob("*/*"))
    answer = load(two, "one:x", folder(tmp_path / "a", '{"base": "two:b"}'))
    assert answer.status_code == 400 and "does not fit one" in answer.text
    assert set((two.home / "adapters").glob("*/*")) == before
    assert list((two.home / "adapters").glob("*/.partial/*")) == []


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "lora_name: is required"),
        ({"lora_name": ""}, 400, "'lora_name' needs to be provided"),
        ({"lora_name": "x"}, 404, "The lora adapter 'x' cannot be found."),
        ({"lora_name": "one"}, 404, "The lora adapter 'one' cannot be found."),
        ({"lora_name": "../" * 1000}, 404, "cannot be found."),
    ],
)
def test_what_cannot_be_unloaded(
    two: Live, body: dict[str, Any], status: int, message: str
) -> None:
    answer = two.http().post("/v1/unload_lora_adapter", json=body)
    assert answer.status_code == status and message in answer.json()["error"]["message"]


def slow_stream(live: Live, model: str) -> tuple[list[str], threading.Thread]:
    """A stream of six slow tokens, under way."""
    texts: list[str] = []

    def read() -> None:
        stream = live.sdk().completions.create(
            model=model, prompt="SLOWLY", max_tokens=6, stream=True
        )
        texts.extend(chunk.choices[0].text for chunk in stream)

    thread = threading.Thread(target=read)
    thread.start()
    wait_for(lambda: texts)
    return texts, thread


def test_replaced_in_place_while_it_is_used(clean: Live, tmp_path: Path) -> None:
    first, second = folder(tmp_path / "1"), folder(tmp_path / "2", '{"r": 4}')
    assert load(clean, "one:x", first).status_code == 200
    before = said(clean, "one:x")
    again = load(clean, "one:x", second)
    assert again.status_code == 400 and "set 'load_inplace' to True" in again.text
    running, thread = slow_stream(clean, "one:x")
    assert load(clean, "one:x", second, load_inplace=True).status_code == 200
    assert thread.is_alive() and said(clean, "one:x") not in ("", before)
    thread.join()
    assert load(clean, "one:x", first, load_inplace=True).status_code == 200
    alone, thread = slow_stream(clean, "one:x")
    thread.join()
    assert "".join(running) == "".join(alone)  # it ended on what it had begun with
    assert said(clean, "one:x") == before
    card = clean.http().get("/v1/models/one:x").json()["adapter"]
    assert load(clean, "one:x", first, load_inplace=True).status_code == 200
    assert clean.http().get("/v1/models/one:x").json()["adapter"] == card  # by itself: nothing


def test_unloaded_while_it_is_used(clean: Live, tmp_path: Path) -> None:
    assert load(clean, "one:x", folder(tmp_path / "1")).status_code == 200
    texts, thread = slow_stream(clean, "one:x")
    assert unload(clean, "one:x").status_code == 200
    assert thread.is_alive() and listed(clean) == ["one", "two:b"]
    thread.join()
    assert len("".join(texts)) == 6


def test_files_go_when_nobody_uses_them_any_more(tmp_path: Path) -> None:
    """Not before: a request may have found an adapter and not have reached its replica yet."""

    class Told(Replica):
        unloaded: list[str] = []

        def unload_adapter(self, sha256: str) -> None:
            self.unloaded.append(sha256)

    async def run() -> None:
        router, in_use = Router([Told("one", Deployment(model="one"))]), set()
        store = await asyncio.to_thread(Store.open, None, tmp_path / "home")
        adapters = Adapters(
            router, {}, in_use=lambda: in_use, keep_s=0.05,
            read=lambda base, path: AdapterFacts(1, ["q_proj"]),
        )  # fmt: skip
        await adapters.load(store)
        one, base = folder(tmp_path / "1"), BaseModel("one", "one")
        first = await adapters.add("local", one, name="a", base=base)
        twin = await adapters.add("local", one, name="twin", base=base)
        path = Path(first.ref.path)
        in_use.add(first.ref.sha256)
        await adapters.remove(first)
        await adapters.remove(twin)
        await asyncio.sleep(0.3)
        assert path.is_dir()
        again = await adapters.add("local", one, name="again", base=base)
        in_use.clear()
        await asyncio.sleep(0.3)
        assert path.is_dir() and not Told.unloaded  # another adapter has the same files
        await adapters.remove(again, keeps_row=True)
        while path.is_dir():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert [row.name for row in store.adapters.list("local", state="retired").items] == [
            "again"
        ]
        assert Told.unloaded == [first.ref.sha256]
        store.close()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_its_own_chat_template_is_used(clean: Live, tmp_path: Path) -> None:
    def prompt(model: str) -> str:
        body = {"model": model, "messages": HELLO}
        return clean.http().post("/apply-template", json=body).json()["prompt"]

    assert load(clean, "one:same", folder(tmp_path / "1", template="fake")).status_code == 200
    assert load(clean, "one:own", folder(tmp_path / "2", template="SYSTEM ")).status_code == 200
    assert prompt("one:same") == prompt("one")
    assert prompt("one:own").removeprefix("<bos>") == "SYSTEM user: hello\n"
    usage = [
        clean.sdk().chat.completions.create(model=m, messages=HELLO, max_tokens=1).usage
        for m in ("one", "one:own")
    ]
    assert usage[1].prompt_tokens == usage[0].prompt_tokens + len("SYSTEM ")


def test_metrics_of_an_adapter_end_with_it(clean: Live, tmp_path: Path) -> None:
    assert load(clean, "one:m", folder(tmp_path / "1")).status_code == 200
    whole = clean.metric("firefront_generation_tokens_total", model_name="one")
    said(clean, "m")
    said(clean, "one:m")
    labels = {"model_name": "one", "adapter": "m"}
    assert clean.metric("firefront_adapter_generation_tokens_total", **labels) == 24
    assert clean.metric("firefront_adapter_prompt_tokens_total", **labels) == 2
    assert clean.metric("firefront_adapter_request_success_total", **labels) == 2
    assert clean.metric("firefront_adapter_time_to_first_token_seconds_count", **labels) == 2
    assert clean.metric("firefront_generation_tokens_total", model_name="one") == whole + 24
    with pytest.raises(openai.NotFoundError):
        said(clean, "one:never")
    clean.sdk().models.delete("one:m")
    text = clean.http().get("/metrics").text
    assert 'adapter="m"' not in text and "never" not in text and 'model_name="one:' not in text


def test_they_are_there_after_a_restart(make_live: Callable[..., Live], tmp_path: Path) -> None:
    live = make_live("one", "other")
    assert load(live, "one:kept", folder(tmp_path / "1")).status_code == 200
    assert load(live, "one:gone", folder(tmp_path / "2", '{"r": 1}')).status_code == 200
    assert load(live, "other:theirs", folder(tmp_path / "3")).status_code == 200
    before = said(live, "one:kept")
    live.sdk().models.delete("one:gone")
    assert live.stop() == 0
    again = make_live("one", FIREFRONT_HOME=live.home)
    assert listed(again) == ["one", "one:kept"]
    assert said(again, "one:kept") == before
    [kept] = (live.home / "adapters").iterdir()
    assert len([path for path in kept.iterdir() if not path.name.startswith(".")]) == 1
    # The other base's is kept, though it is not served here.
    store = Store.open(None, live.home)
    assert [row.base for row in store.adapters.serving()] == ["one", "other"]
    store.close()


def test_lost_files_come_back_with_the_adapter(
    make_live: Callable[..., Live], tmp_path: Path
) -> None:
    live, source = make_live("one"), folder(tmp_path / "1")
    part = folder(tmp_path / "2", template="SYSTEM ")
    for name, path in (("one:x", source), ("one:part", part)):
        assert load(live, name, path).status_code == 200
    before = said(live, "one:x")
    assert live.stop() == 0
    for path in (live.home / "adapters").glob("*/*"):
        if (path / "chat_template.jinja").exists():
            (path / "chat_template.jinja").unlink()
        elif not path.name.startswith("."):
            shutil.rmtree(path)
    again = make_live("one", FIREFRONT_HOME=live.home)
    assert listed(again) == ["one"]
    for name, path in (("one:x", source), ("one:part", part)):
        assert load(again, name, path, load_inplace=True).status_code == 200
    assert said(again, "one:x") == before and again.stop() == 0


def test_named_on_the_command_line(make_live: Callable[..., Live], tmp_path: Path) -> None:
    first, second = folder(tmp_path / "1"), folder(tmp_path / "2", '{"r": 1}')
    live = make_live("one", FAKE_ADAPTERS=f"x={first} one:y={second}")
    assert listed(live) == ["one", "one:x", "one:y"]
    cards = live.http().get("/v1/models").json()["data"]
    assert live.stop() == 0
    again = make_live("one", FIREFRONT_HOME=live.home, FAKE_ADAPTERS=f"x={first} y={first}")
    kept = again.http().get("/v1/models").json()["data"]
    assert [card["id"] for card in kept] == ["one", "one:x", "one:y"]
    assert kept[1] == cards[1] and kept[2]["root"] == kept[1]["root"]


def test_one_that_cannot_be_served_ends_the_start(
    make_live: Callable[..., Live], tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=r"(?s)nowhere.*does not exist"):
        make_live("one", FAKE_ADAPTERS=f"x={tmp_path}/nowhere")


def test_only_the_owner_names_folders(make_live: Callable[..., Live], tmp_path: Path) -> None:
    live = make_live("one", FAKE_HOST="0.0.0.0")
    for answer in (load(live, "x", folder(tmp_path / "1")), unload(live, "x")):
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "permission_denied"
