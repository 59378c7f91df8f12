"""vLLM as a child, its engine in the same process; logits are taken where it computes them."""

import time
from typing import Any

from workload import converse

LENGTH = 4096


def build(task: dict[str, Any]) -> dict[str, Any]:
    import torch
    import vllm

    engine = vllm.LLM(
        task["model"], dtype="bfloat16", max_model_len=LENGTH, max_num_seqs=64,
        skip_tokenizer_init=True, enforce_eager=task["use"] == "logits",
    )  # fmt: skip

    def run(prompts: list[list[int]], **wanted: Any) -> Any:
        params = vllm.SamplingParams(temperature=0, ignore_eos=True, detokenize=False, **wanted)
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        return engine.generate(inputs, params, use_tqdm=False)

    def seconds(prompts: list[list[int]], num_output: int) -> float:
        started_s = time.perf_counter()
        results = run(prompts, max_tokens=num_output)
        elapsed_s = time.perf_counter() - started_s
        got = sum(len(result.outputs[0].token_ids) for result in results)
        assert got == len(prompts) * num_output, got
        return elapsed_s

    versions = {"vllm": vllm.__version__, "torch": torch.__version__}
    if task["use"] == "speed":
        return {"seconds": seconds, "keeps_prefixes": True, "versions": versions}
    return {"logits": prompt_logits(engine, run), "versions": versions}


def prompt_logits(engine: Any, run: Any) -> Any:
    """Logits of all prompt positions: computed when their log-probabilities are asked for."""
    import torch

    seen: list[Any] = []

    def watch(model: Any) -> None:
        inner = model.compute_logits

        def compute_logits(*args: Any, **kwargs: Any) -> Any:
            logits = inner(*args, **kwargs)
            seen.append(logits.detach().float().clone())
            return logits

        model.compute_logits = compute_logits

    engine.apply_model(watch)

    def logits(chunk: list[int]) -> Any:
        seen.clear()
        run([chunk], max_tokens=1, prompt_logprobs=0)
        prompt = max(seen, key=len)  # of every position that predicts a prompt token
        assert len(prompt) == len(chunk) - 1, [len(rows) for rows in seen]
        return torch.cat([prompt, prompt[-1:]]).numpy()

    return logits


if __name__ == "__main__":
    converse(build)
