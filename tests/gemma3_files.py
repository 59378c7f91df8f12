"""Gemma 3 as a GGUF file: tensors and keys by the gguf package, as llama.cpp writes them."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.tiny import FULL, SLIDING, TinyModel


def save_gguf(tiny: TinyModel, path: Path) -> Path:
    """Write a tiny Gemma 3 in F32. The converter has no keys for a pattern and a rope of the
    windows; what llama.cpp reads is written for what differs from its defaults."""
    hf: Any = tiny.model.config
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_context_length(hf.max_position_embeddings)
    writer.add_embedding_length(hf.hidden_size)
    writer.add_block_count(hf.num_hidden_layers)
    writer.add_feed_forward_length(hf.intermediate_size)
    writer.add_head_count(hf.num_attention_heads)
    writer.add_head_count_kv(hf.num_key_value_heads)
    writer.add_layer_norm_rms_eps(hf.rms_norm_eps)
    writer.add_key_length(hf.head_dim)
    writer.add_value_length(hf.head_dim)
    writer.add_sliding_window(hf.sliding_window)
    full, window = hf.rope_parameters[FULL], hf.rope_parameters[SLIDING]
    writer.add_rope_freq_base(full["rope_theta"])
    if full["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(full["factor"])
    if window["rope_theta"] != 1e4:
        writer.add_rope_freq_base_swa(window["rope_theta"])
    kinds = [kind == SLIDING for kind in hf.layer_types]
    if kinds != [bool((i + 1) % 6) for i in range(len(kinds))]:
        writer.add_sliding_window_pattern(kinds)
    if hf.query_pre_attn_scalar != hf.head_dim:
        writer.add_float32("gemma3.attention.scale", hf.query_pre_attn_scalar**-0.5)
    if hf.attn_logit_softcapping:
        writer.add_attn_logit_softcapping(hf.attn_logit_softcapping)
    if hf.final_logit_softcapping:
        writer.add_final_logit_softcapping(hf.final_logit_softcapping)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, hf.num_hidden_layers)
    for name, parameter in tiny.model.named_parameters():  # a tied head is no parameter
        stored = parameter.detach().numpy() + np.float32(name.endswith("norm.weight"))
        found = names.get_name(name, try_suffixes=(".weight",))
        assert found is not None, name
        writer.add_tensor(found, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
