# SPDX-License-Identifier: Apache-2.0
"""A committed model as a directory that Hugging Face's libraries load, for a command that evaluates it.

`model.safetensors` has every parameter in fp32. Where the run's model is a Llama, `config.json` says so; where it reads
bytes, `tokenizer.json` turns each byte of UTF-8 text into its token, behind a beginning-of-text mark.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import torch

from federation.durable.real import RealFileSystem
from federation.manifest import Manifest
from site_agent.inner_loop.global_model import with_aliases
from site_agent.inner_loop.seam import Float32Array
from site_agent.trainer.tensor_file import write_tensors

_BEGIN_OF_TEXT: Final = 256
_MARK: Final = "<s>"


def export_model(
    fs: RealFileSystem, directory: str, manifest: Manifest, parameters: Mapping[str, Float32Array], *, reads_bytes: bool
) -> None:
    """Writes the directory anew.

    Raises:
        StorageError: it cannot be written, the disk is full for instance.
    """
    fs.remove_tree(directory)
    fs.mkdir(directory)
    tensors = {name: torch.from_numpy(array) for name, array in sorted(with_aliases(parameters, manifest).items())}
    write_tensors(fs, f"{directory}/model.safetensors", tensors, {"format": "pt"})
    files: dict[str, dict[str, Any]] = {}
    if "model.embed_tokens.weight" in parameters:
        files["config.json"] = llama_config(manifest)
    if reads_bytes:
        files |= {"tokenizer.json": byte_tokenizer(), "tokenizer_config.json": _tokenizer_config(manifest)}
    for name, content in files.items():
        fs.write(f"{directory}/{name}", json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")


def llama_config(manifest: Manifest) -> dict[str, Any]:
    """`config.json`: what the reference trainer builds its model from, everything else at its default."""
    model = manifest.model
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads,
        "max_position_embeddings": model.max_positions,
        "vocab_size": model.vocab_size,
        "tie_word_embeddings": model.tie_embeddings,
        "bos_token_id": _BEGIN_OF_TEXT,
        "eos_token_id": _BEGIN_OF_TEXT,
        "torch_dtype": "float32",
    }


def byte_tokenizer() -> dict[str, Any]:
    """`tokenizer.json` of a BPE without merges: byte b is token b, and 256 begins a text."""
    vocabulary = {character: byte for byte, character in enumerate(_characters())}
    mark = {"id": _BEGIN_OF_TEXT, "content": _MARK, "special": True}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    begin = {"SpecialToken": {"id": _MARK, "type_id": 0}}
    texts = [{"Sequence": {"id": name, "type_id": index}} for index, name in enumerate("AB")]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [mark | plain],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, texts[0]],
            "pair": [begin, *texts],
            "special_tokens": {_MARK: {"id": _MARK, "ids": [_BEGIN_OF_TEXT], "tokens": [_MARK]}},
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary | {_MARK: _BEGIN_OF_TEXT},
            "merges": [],
        },
    }


def _tokenizer_config(manifest: Manifest) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": _MARK,
        "eos_token": _MARK,
        "pad_token": _MARK,
        "model_max_length": manifest.model.max_positions,
        "clean_up_tokenization_spaces": False,
    }


def _characters() -> list[str]:
    """What stands for each byte in such a vocabulary (GPT-2's table): itself if it is printed, else one from 256 on."""
    printed = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printed else chr(next(others)) for byte in range(256)]
