"""A model of each family of image and text classifiers of transformers, as small as its configuration allows."""

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
from transformers.models.auto import modeling_auto  # noqa: E402

IMAGES = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
TEXTS = modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32, "patch_size": 8,
    "vocab_size": 64, "max_position_embeddings": 32, "d_model": 16, "num_key_value_heads": 2, "head_dim": 8, "encoder_layers": 1,
    "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
    "n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 32, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16,
    "num_layers": 2, "num_heads": 2, "d_ff": 16, "d_kv": 8, "embed_dim": 16, "embedding_size": 16, "num_experts": 4,
    "num_local_experts": 4, "moe_intermediate_size": 16, "n_routed_experts": 4, "ffn_dim": 16, "word_embed_proj_dim": 16,
    "emb_dim": 16, "entity_vocab_size": 16, "entity_emb_size": 16, "original_max_position_embeddings": 32,
}  # fmt: skip
# sizes that a default leaves open
OPEN = ("vocab_size", "head_dim", "num_key_value_heads")
TOKENS = {
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "mask_token_id": 3,
}
TWO_LAYERS = {"layer_types": ["sliding_attention", "full_attention"]}
VISION = {k: SMALL[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size",
                                "patch_size")}  # fmt: skip
WORDS = {k: SMALL[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size",
                               "max_position_embeddings", "num_key_value_heads", "head_dim")} | TOKENS  # fmt: skip
OTHER = {
    "bit": {"hidden_sizes": [32, 32, 32, 32], "depths": [1, 1, 1, 1], "embedding_size": 32, "num_groups": 4},
    **{name: {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "patch_size": 4} for name in ("convnext", "convnextv2")},
    **{name: {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "embedding_size": 8} for name in ("resnet", "regnet")},
    **{name: {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2} for name in ("swin", "swinv2", "donut-swin")},
    "efficientnet": {"width_coefficient": 0.2, "depth_coefficient": 0.2, "hidden_dim": 64},
    "levit": {
        "image_size": 64, "patch_size": 16, "hidden_sizes": [16, 16, 16], "num_attention_heads": [1, 1, 1],
        "depths": [1, 1, 1], "key_dim": [8, 8, 8],
        "down_ops": [["Subsample", 8, 2, 4, 2, 2], ["Subsample", 8, 2, 4, 2, 2]],
    },
    "perceiver": {
        "num_latents": 4, "d_latents": 16, "num_self_attends_per_block": 1, "num_self_attention_heads": 2,
        "num_cross_attention_heads": 1, "image_size": 8, "num_blocks": 1,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "modernbert": TWO_LAYERS,
    "modernbert-decoder": TWO_LAYERS,
    "cohere_compass_text": {
        "layer_types": ["full_attention"] * 2,
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}},
    },
    "poolformer": {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]},
    "zamba": {
        "hidden_size": 16, "attention_hidden_size": 32, "num_hidden_layers": 4, "attention_head_dim": 16, "num_attention_heads": 2,
        "layers_block_type": ["linear_attention", "hybrid"] * 2, "mamba_dt_rank": 4, "mamba_d_state": 4, "attn_layer_period": 2,
        "attn_layer_offset": 1,
    },
    "zamba2": {
        "hidden_size": 32, "num_hidden_layers": 2, "layers_block_type": ["linear_attention", "hybrid"], "mamba_d_state": 4,
        "n_mamba_heads": 8, "mamba_headdim": 8, "chunk_size": 4, "adapter_rank": 2, "attention_hidden_size": 64,
        "attention_head_dim": 32, "hybrid_layer_ids": [1],
    },
    "gemma3": {"text_config": WORDS | TWO_LAYERS, "vision_config": VISION, "mm_tokens_per_image": 4},
    "shieldgemma2": {"text_config": WORDS | TWO_LAYERS, "vision_config": VISION, "mm_tokens_per_image": 4},
    "modernvbert": {"text_config": WORDS | TWO_LAYERS, "vision_config": VISION},
    "ultravbert": {"text_config": WORDS | TWO_LAYERS, "vision_config": VISION},
    "t5gemma": {"encoder": WORDS | TWO_LAYERS, "decoder": WORDS | TWO_LAYERS},
    "t5gemma2": {
        "encoder": {"text_config": WORDS | TWO_LAYERS, "vision_config": VISION, "mm_tokens_per_image": 4},
        "decoder": WORDS | TWO_LAYERS,
    },
    "qwen3_5": {
        "text_config": WORDS | {
            "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 8, "linear_value_head_dim": 8,
            "linear_num_key_heads": 2, "linear_num_value_heads": 2,
        },
        "vision_config": {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
    },
    **{
        name: {"vision_config": SMALL, "text_config": SMALL}
        for name in ("clip", "metaclip_2", "siglip", "siglip2")
    },
}  # fmt: skip
# parameters of the largest model that a test makes
MOST = 60_000_000


def auto(family):
    """The class by which transformers loads a family."""
    images = transformers.AutoModelForImageClassification
    return images if family in IMAGES else transformers.AutoModelForSequenceClassification


def config_of(family):
    """The smallest configuration of a family, or the reason why there is none."""
    kind = transformers.CONFIG_MAPPING[family]
    defaults = kind().to_dict()
    sizes = {
        k: v for k, v in SMALL.items() if isinstance(defaults.get(k), int) or (k in OPEN and k in defaults)
    }
    sizes |= {k: v for k, v in TOKENS.items() if k in defaults}
    problem = None
    for chosen in ({**sizes, **OTHER.get(family, {})}, OTHER.get(family, {})):
        try:
            config = kind(**chosen, num_labels=3)
            if getattr(config, "pad_token_id", 0) is None:
                config.pad_token_id = 0
            # a family with several classifiers needs the name of one
            classes = (IMAGES if family in IMAGES else TEXTS)[family]
            config.architectures = [classes if isinstance(classes, str) else classes[0]]
            with torch.device("meta"):
                count = sum(p.numel() for p in auto(family).from_config(config).parameters())
            if count > MOST:
                raise ValueError(f"{count:,} parameters")
            return config
        except ImportError as error:
            pytest.skip(
                f"{family} needs a library that is not installed: {str(error).strip().splitlines()[:1]}"
            )
        except Exception as error:
            problem = problem or f"{type(error).__name__}: {error}"
    raise AssertionError(f"no tiny configuration of {family}: {problem}")


def tiny(family):
    """A model of a family with initial parameters."""
    return auto(family).from_config(config_of(family)).float()
