"""ONNX Runtime GenAI as a child: static batches; the prompt's logits come with its prefill."""

import json
import time
from typing import Any

import numpy as np
import onnxruntime_genai
from workload import converse


def build(task: dict[str, Any]) -> dict[str, Any]:
    config = onnxruntime_genai.Config(task["model"])
    options = {"intra_op_num_threads": task["threads"]}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = onnxruntime_genai.Model(config)

    def prefilled(prompts: list[list[int]], num_output: int) -> Any:
        params = onnxruntime_genai.GeneratorParams(model)
        length = len(prompts[0]) + num_output
        params.set_search_options(
            batch_size=len(prompts), min_length=length, max_length=length, do_sample=False
        )
        generator = onnxruntime_genai.Generator(model, params)
        generator.append_tokens(np.array(prompts, np.int32))
        return generator

    def seconds(prompts: list[list[int]], num_output: int) -> float:
        started_s = time.perf_counter()
        generator = prefilled(prompts, num_output)
        for _ in range(num_output):
            generator.generate_next_token()
        elapsed_s = time.perf_counter() - started_s
        for number, prompt in enumerate(prompts):
            got = len(generator.get_sequence(number)) - len(prompt)
            assert got == num_output, got
        return elapsed_s

    def logits(chunk: list[int]) -> Any:
        rows = np.array(prefilled([chunk], 1).get_output("logits"), np.float32)[0]
        assert len(rows) == len(chunk), rows.shape
        return rows

    versions = {"onnxruntime-genai": onnxruntime_genai.__version__}
    return {"seconds": seconds, "logits": logits, "versions": versions}


if __name__ == "__main__":
    converse(build)
