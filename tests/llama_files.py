"""Llama as a GGUF file: tensors and keys by the gguf package, as llama.cpp writes them."""

from pathlib import Path

import gguf
import numpy as np

from tests.tiny import TinyModel


def save_gguf(tiny: TinyModel, path: Path, dtype: str = "F32") -> Path:
    """Write a tiny llama, its matrices in `dtype`; rows of q and k permuted as the converter does.
    """
    kind = gguf.GGMLQuantizationType[dtype]
    hf = tiny.model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(hf.max_position_embeddings)
    writer.add_embedding_length(hf.hidden_size)
    writer.add_block_count(hf.num_hidden_layers)
    writer.add_feed_forward_length(hf.intermediate_size)
    writer.add_head_count(hf.num_attention_heads)
    writer.add_head_count_kv(hf.num_key_value_heads)
    writer.add_layer_norm_rms_eps(hf.rms_norm_eps)
    writer.add_rope_dimension_count(hf.head_dim)
    writer.add_rope_freq_base(hf.rope_parameters["rope_theta"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, hf.num_hidden_layers)
    for name, parameter in tiny.model.named_parameters():
        stored = parameter.detach().numpy()
        if "q_proj" in name or "k_proj" in name:
            halves = stored.reshape(-1, 2, hf.head_dim // 2, hf.hidden_size)
            stored = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(stored.shape)
        found = names.get_name(name, try_suffixes=(".weight",))
        if stored.ndim == 2:
            writer.add_tensor(found, gguf.quants.quantize(stored, kind), raw_dtype=kind)
        else:
            writer.add_tensor(found, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
