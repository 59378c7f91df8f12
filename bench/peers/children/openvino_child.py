"""OpenVINO GenAI as a child: continuous batching on the GGUF, or its graph run for logits.

The graph is what its own GGUF reader makes of the file; for logits it is compiled with the same
settings and run in pieces, so that second halves read the cache.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
from workload import converse

PIECE = 256


def build(task: dict[str, Any]) -> dict[str, Any]:
    settings = {"INFERENCE_NUM_THREADS": task["threads"], **task.get("settings", {})}
    versions = {"openvino-genai": openvino_genai.get_version()}
    if task["use"] == "logits":
        return {"logits": graph_logits(task["model"], settings), "versions": versions}
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 2  # GB
    scheduler.max_num_batched_tokens = 2048
    scheduler.max_num_seqs = 64
    scheduler.enable_prefix_caching = True
    scheduler.dynamic_split_fuse = True
    pipeline = openvino_genai.ContinuousBatchingPipeline(
        task["model"], scheduler, "CPU", properties=settings
    )

    def seconds(prompts: list[list[int]], num_output: int) -> float:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = num_output
        config.ignore_eos = True
        inputs = [openvino.Tensor(np.array([prompt], np.int64)) for prompt in prompts]
        started_s = time.perf_counter()
        results = pipeline.generate(inputs, [config] * len(inputs))
        elapsed_s = time.perf_counter() - started_s
        got = sum(len(result.m_generation_ids[0]) for result in results)
        assert got == len(prompts) * num_output, got
        return elapsed_s

    return {"seconds": seconds, "keeps_prefixes": True, "versions": versions}


def graph_logits(model: str, settings: dict[str, Any]) -> Any:
    graph = Path(model).with_name("openvino_model.xml")
    if not graph.exists():
        openvino_genai.LLMPipeline(model, "CPU", enable_save_ov_model=True)
    core = openvino.Core()
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
    names = {name for port in request.model_inputs for name in port.names}

    def logits(chunk: list[int]) -> Any:
        request.reset_state()
        rows = []
        for start in range(0, len(chunk), PIECE):
            piece = chunk[start : start + PIECE]
            end = start + len(piece)
            feed = {
                "input_ids": np.array([piece], np.int64),
                "attention_mask": np.ones((1, end), np.int64),
                "position_ids": np.arange(start, end, dtype=np.int64)[None],
                "beam_idx": np.zeros(1, np.int32),
            }
            result = request.infer({name: feed[name] for name in names})
            rows.append(np.array(result[0][0], np.float32))
        return np.concatenate(rows)

    return logits


if __name__ == "__main__":
    converse(build)
