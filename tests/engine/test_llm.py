"""firefront.LLM over the fake executor: what it takes, what it gives, what it leaves behind."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import firefront
from firefront.core.clock import ManualClock
from firefront.core.errors import ModelFileError, NotFoundError, RequestError
from firefront.core.messages import AdapterRef
from firefront.engine.adapters import Adapters
from firefront.engine.config import EngineConfig
from firefront.engine.engine import Engine
from firefront.engine.preparing import ReadNow
from firefront.llm import LLM, Logprob
from firefront.weights.adapter_store import adapter_sha256
from tests.engine.fake_executor import FakeExecutor, FakePacked, expected
from tests.engine.harness import FakeTokenizer

Params = firefront.SamplingParams
GREEDY = Params(temperature=0.0, max_tokens=6, ignore_eos=True)


class ChatTokenizer(FakeTokenizer):
    def encode_chat(
        self, messages: list, tools: object, add_generation_prompt: bool, **kwargs: object
    ) -> list[int]:
        return self.encode("".join(m["content"] for m in messages)) + [25]

    def decode(self, ids: list[int], skip_special: bool = True) -> str:
        return "".join(map(self.letter, ids))


def make(executor: FakeExecutor | None = None, **config: object) -> LLM:
    tokenizer = ChatTokenizer()
    engine = Engine(
        executor or FakeExecutor(), tokenizer, EngineConfig(**config), ManualClock()
    )
    return LLM.from_engine(engine, tokenizer)


def test_prompt_forms() -> None:
    llm = make()
    want = expected([1, 2], GREEDY)
    ids = [1, 2]
    for prompts in ("bc", {"prompt": "bc"}, {"prompt_token_ids": ids}, ids, ["bc"], [ids]):
        (result,) = llm.generate(prompts, GREEDY)
        assert result.prompt_token_ids == ids and result.finished
        assert result.prompt == (None if "bc" not in str(prompts) else "bc")
        (output,) = result.outputs
        assert (output.token_ids, output.finish_reason) == (want, "length")
        assert output.text == llm.get_tokenizer().text(want)
        assert output.logprobs is None and output.cumulative_logprob is None
    array = np.array(ids)
    for prompts in (array, [array], {"prompt_token_ids": array}):
        (result,) = llm.generate(prompts, GREEDY)
        assert result.prompt_token_ids == ids and result.outputs[0].token_ids == want
    assert [r.prompt for r in llm.generate(["b", "c", "d"], GREEDY)] == ["b", "c", "d"]
    assert llm.generate([], GREEDY) == []


def test_chat_takes_one_or_many_conversations() -> None:
    llm = make()
    messages = [{"role": "user", "content": "bc"}]
    (result,) = llm.chat(messages, GREEDY)
    assert (result.prompt_token_ids, result.prompt) == ([1, 2, 25], "bcz")
    two = llm.chat([messages, messages], [GREEDY, Params(temperature=0.0, max_tokens=2)])
    assert [len(r.outputs[0].token_ids) for r in two] == [6, 2]


def test_a_prediction_saves_steps_and_changes_no_token() -> None:
    params = Params(temperature=0.0, max_tokens=60, ignore_eos=True, n=2)
    plain = make(max_draft=15)
    (want,) = plain.generate("bc", params)
    text = "".join(chr(97 + token) for token in want.outputs[0].token_ids)  # encode undoes it
    plain_steps = plain._engine.stats().num_steps

    def check(llm: LLM, results: list) -> None:
        outputs = [o.token_ids for result in results for o in result.outputs]
        assert outputs == [o.token_ids for o in want.outputs] * len(results)
        assert llm._engine.stats().num_steps < 0.7 * plain_steps
        assert llm._engine.stats().accepted_tokens > 40

    def drafting() -> LLM:
        llm = make(max_draft=15)
        llm._engine._speculator._cost.observe(1, 0, 1.0)
        llm._engine._speculator._cost.observe(2, 0, 1.0)
        return llm

    llm = drafting()
    check(llm, llm.generate("bc", params, prediction=text))
    llm = drafting()
    check(llm, llm.generate(["bc"], params, prediction=[text]))
    chat, message = drafting(), [{"role": "user", "content": "bc"}]
    (answer,) = chat.chat(message, params)
    text = "".join(chr(97 + token) for token in answer.outputs[0].token_ids)
    before = chat._engine.stats().accepted_tokens
    (again,) = chat.chat(message, params, prediction=text)
    assert again.outputs == answer.outputs
    assert chat._engine.stats().accepted_tokens > before + 40
    assert chat.generate(["b", "c"], GREEDY, prediction=[None, text])
    for wrong in ([text, text], [7], "b" * 5000):
        with pytest.raises(RequestError, match="prediction"):
            drafting().generate("bc", params, prediction=wrong)


def test_an_adapter_for_all_prompts_or_for_each(tmp_path: Path) -> None:
    """By folder; it is its contents that count, and what is wrong with one is raised at once."""
    for name, contents in {"a": "1", "b": "2", "copy of a": "1", "bad": "3"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
        (tmp_path / name / "adapter_model.safetensors").write_text(contents)
    num_read = 0

    def read(ref: AdapterRef) -> FakePacked:
        nonlocal num_read
        num_read += 1
        if ref.name == "bad":
            raise ModelFileError(ref.path, "use_dora", "cannot be served")
        return FakePacked(ref.sha256.encode())

    executor, tokenizer = FakeExecutor(), ChatTokenizer()
    adapters = Adapters(executor, ReadNow(read), max_adapters=1, max_bytes=9)
    engine = Engine(executor, tokenizer, EngineConfig(), ManualClock(), adapters=adapters)
    llm = LLM.from_engine(engine, tokenizer)
    a, b, copy = tmp_path / "a", str(tmp_path / "b"), tmp_path / "copy of a"
    wanted = {
        folder: expected([1, 2], GREEDY, adapter=folder and adapter_sha256(Path(folder)).encode())
        for folder in (a, b, copy, b"")
    }
    assert wanted[a] == wanted[copy] and len(set(map(tuple, wanted.values()))) == 3

    def check(given: object, folders: list) -> None:
        for results in (
            llm.generate(["bc"] * len(folders), GREEDY, adapter=given),
            llm.generate([[1, 2]] * len(folders), GREEDY, adapter=given),
        ):
            got = [result.outputs[0].token_ids for result in results]
            assert got == [wanted[folder] for folder in folders]

    check(None, [b"", b""])
    check(a, [a, a])
    assert num_read == 2  # to check it, and to load it
    check([a, None, b, copy, None, b], [a, b"", b, a, b"", b])
    (result,) = llm.chat([{"role": "user", "content": "bc"}], GREEDY, adapter=b)
    key = adapter_sha256(Path(b)).encode()
    assert result.outputs[0].token_ids == expected([1, 2, 25], GREEDY, adapter=key)
    for given, problem in [
        (tmp_path / "bad", "adapter bad: use_dora: cannot be served"),
        (tmp_path / "none", "adapter_config.json: the folder has none"),
        ([a], "adapter: 1 for 2 prompts; give one, or one a prompt"),
        (7, "adapter"),
        ([7, a], "adapter: must be a folder, got int"),
    ]:
        with pytest.raises((RequestError, ModelFileError), match=problem):
            llm.generate(["b", "c"], GREEDY, adapter=given)
    with pytest.raises(NotFoundError, match="takes none"):
        make().generate("b", GREEDY, adapter=a)


def test_logprobs_are_dicts_by_token() -> None:
    params = Params(temperature=0.0, max_tokens=3, logprobs=2, prompt_logprobs=1, ignore_eos=True)
    (result,) = make().generate([[5, 6, 7]], params)
    (output,) = result.outputs
    assert len(output.logprobs) == 3
    for token, entry in zip(output.token_ids, output.logprobs, strict=True):
        assert token in entry and 2 <= len(entry) <= 3
        assert sorted(lp.rank for lp in entry.values() if lp.rank) == [1, 2]
        assert all(isinstance(lp, Logprob) and lp.decoded_token for lp in entry.values())
    assert result.prompt_logprobs[0] is None and len(result.prompt_logprobs) == 3
    assert 6 in result.prompt_logprobs[1]
    total = sum(e[t].logprob for t, e in zip(output.token_ids, output.logprobs, strict=True))
    assert output.cumulative_logprob == pytest.approx(total)


def test_n_samples_have_their_own_seeds_and_share_the_prompt() -> None:
    llm = make()
    prompt = list(range(40))
    params = Params(temperature=1.0, seed=5, n=4, max_tokens=6, ignore_eos=True)
    (result,) = llm.generate([prompt], params)
    for i, output in enumerate(result.outputs):
        alone = Params(temperature=1.0, seed=5 + i, max_tokens=6, ignore_eos=True)
        assert (output.index, output.token_ids) == (i, expected(prompt, alone))
    assert llm._engine.stats().prefix_hits == 3 * 32
    params = Params(temperature=1.0, seed=2**63 - 1, n=2, max_tokens=6, ignore_eos=True)
    (result,) = llm.generate([prompt], params)
    alone = Params(temperature=1.0, seed=-(2**63), max_tokens=6, ignore_eos=True)
    assert result.outputs[1].token_ids == expected(prompt, alone)


def test_more_prompts_than_the_queue_holds() -> None:
    results = make(max_waiting=2, max_num_seqs=2).generate([[i] for i in range(20)], GREEDY)
    assert [r.outputs[0].token_ids for r in results] == [expected([i], GREEDY) for i in range(20)]


def test_a_bad_prompt_or_parameter_runs_nothing() -> None:
    llm = make()
    for prompts, params in (
        ([[1], []], GREEDY),
        ([[1], [1]], [GREEDY]),
        ([[1], {"text": "a"}], GREEDY),
        (None, GREEDY),
        ([None], GREEDY),
        ([[1.5]], GREEDY),
        ({"prompt_token_ids": 5}, GREEDY),
        ([[1]], Params(temperature="hot")),
        ([[1]], Params(top_p=7.0)),
    ):
        with pytest.raises(RequestError):
            llm.generate(prompts, params)
    assert llm._engine.stats().num_steps == 0


def test_stop_may_be_one_string_or_a_list() -> None:
    text = make().generate([[1, 2]], GREEDY)[0].outputs[0].text
    for stop in (text[2:4], [text[2:4]]):
        params = Params(temperature=0.0, max_tokens=6, ignore_eos=True, stop=stop)
        output = make().generate([[1, 2]], params)[0].outputs[0]
        assert (output.text, output.finish_reason) == (text[:2], "stop")
        assert output.stop_reason == text[2:4]


def test_a_failed_request_warns_and_the_others_are_there() -> None:
    executor = FakeExecutor()
    executor.bad = lambda history: history[0] == 2
    with pytest.warns(UserWarning, match="not finite"):
        results = make(executor).generate([[1], [2], [3]], GREEDY)
    assert [r.outputs[0].finish_reason for r in results] == ["length", "error", "length"]
    assert all(r.finished for r in results)


def test_an_interrupt_leaves_an_empty_engine() -> None:
    executor = FakeExecutor()
    llm = make(executor)

    def interrupt(histories: list[list[int]]) -> None:
        if len(histories[0]) == 4:
            executor.after_write = None
            raise KeyboardInterrupt

    executor.after_write = interrupt
    with pytest.raises(KeyboardInterrupt):
        llm.generate([[1], [2]], GREEDY)
    assert not llm._engine.has_work
    assert llm.generate([[1]], GREEDY)[0].outputs[0].token_ids == expected([1], GREEDY)


def test_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(make().generate([[1], [2]], GREEDY, use_tqdm=True)) == 2
    assert "sequences" in capsys.readouterr().out


def test_import_is_lazy() -> None:
    code = (
        "import sys, firefront; assert 'numpy' not in sys.modules; firefront.SamplingParams;"
        "assert 'numpy' not in sys.modules; firefront.LLM; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="nothing"):
        firefront.nothing  # noqa: B018


def test_a_completion_loads_no_library_of_chat_server_or_training(starter_path: Path) -> None:
    code = (
        "import sys; from firefront import LLM, SamplingParams;"
        f"llm = LLM({str(starter_path)!r}, kv_blocks=8, threads=1);"
        "out = llm.generate('Once upon a time', SamplingParams(max_tokens=1, temperature=0));"
        "assert len(out[0].outputs[0].token_ids) == 1;"
        "heavy = {'jinja2', 'pydantic', 'fastapi', 'uvicorn', 'asyncio', 'typer', 'rich', 'torch'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
