"""The two demo models' `config.json`: the released checkpoints' keys with small numbers."""

from collections.abc import Mapping

_ROPE = {"factor": 2.0, "type": "dynamic"}
_DECODER: Mapping[str, object] = {
    "attn_implementation": "eager",
    "bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 192,
    "max_position_embeddings": 1024,
    "model_type": "internlm2",
    "num_attention_heads": 8,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "pad_token_id": 2,
    "rms_norm_eps": 1e-5,
    "rope_scaling": _ROPE,
    "rope_theta": 10000,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": False,
}
_TOWER: Mapping[str, object] = {
    "attention_dropout": 0.0,
    "hidden_size": 96,
    "image_size": 64,
    "intermediate_size": 384,
    "num_attention_heads": 4,
    "num_channels": 3,
    "num_hidden_layers": 3,
    "patch_size": 8,
}

PROCESS: Mapping[str, object] = {
    "architectures": ["InternVLRewardModel"],
    "auto_map": {
        "AutoConfig": "configuration_internvl_chat.InternVLChatConfig",
        "AutoModel": "modeling_internvl_chat.InternVLRewardModel",
        "AutoModelForCausalLM": "modeling_internvl_chat.InternVLRewardModel",
    },
    "downsample_ratio": 0.25,
    "dynamic_image_size": True,
    "force_image_size": 64,
    "hidden_size": 128,
    "llm_config": {**_DECODER, "architectures": ["InternLM2ForCausalLM"], "vocab_size": 535},
    "max_dynamic_patch": 12,
    "min_dynamic_patch": 1,
    "model_type": "internvl_chat",
    "pad2square": False,
    "ps_version": "v2",
    "select_layer": -1,
    "system_message": "Is it right?",
    "template": "internvl2_5",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_backbone_lora": 0,
    "use_llm_lora": 0,
    "use_thumbnail": True,
    "vision_config": {
        **_TOWER,
        "architectures": ["InternVisionModel"],
        "drop_path_rate": 0.0,
        "dropout": 0.0,
        "hidden_act": "gelu",
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-6,
        "model_type": "intern_vit_6b",
        "norm_type": "layer_norm",
        "qk_normalization": False,
        "qkv_bias": True,
        "torch_dtype": "float32",
    },
}

OUTCOME: Mapping[str, object] = {
    **_DECODER,
    "architectures": ["InternLMXComposer2ForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_internlm_xcomposer2.InternLMXcomposer2Config",
        "AutoModel": "modeling_internlm_xcomposer2.InternLMXComposer2ForCausalLM",
        "AutoModelForCausalLM": "modeling_internlm_xcomposer2.InternLMXComposer2ForCausalLM",
    },
    "max_length": 16384,
    "plora_rank": 8,
    "vision_config": {
        **_TOWER,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "model_type": "clip_vision_model",
        "projection_dim": 32,
    },
    "vocab_size": 526,
}
