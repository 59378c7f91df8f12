"""transformers as a child: reads the GGUF dequantised to the task's dtype."""

import time
from pathlib import Path
from typing import Any

import torch
import transformers
from workload import converse


def build(task: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(task["threads"])
    path = Path(task["model"])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=getattr(torch, task["dtype"]),
        quantization_config=transformers.GgufConfig(dequantize=True),
    ).eval()  # fmt: skip
    parts = {
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
        "logits": lambda chunk: logits(model, chunk),
    }
    if task["use"] == "export":
        model.save_pretrained(task["folder"])
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        tokenizer.save_pretrained(task["folder"])
    if task["use"] == "speed":
        parts["seconds"] = lambda prompts, num_output: seconds(model, prompts, num_output)
    return parts


@torch.inference_mode()
def logits(model: Any, chunk: list[int]) -> Any:
    return model(torch.tensor([chunk])).logits[0].float().numpy()


@torch.inference_mode()
def seconds(model: Any, prompts: list[list[int]], num_output: int) -> float:
    ids = torch.tensor(prompts)
    started_s = time.perf_counter()
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_output,
        min_new_tokens=num_output, do_sample=False, pad_token_id=0,
    )  # fmt: skip
    elapsed_s = time.perf_counter() - started_s
    assert out.shape == (len(prompts), len(prompts[0]) + num_output), out.shape
    return elapsed_s


if __name__ == "__main__":
    converse(build)
