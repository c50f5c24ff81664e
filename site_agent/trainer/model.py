# SPDX-License-Identifier: Apache-2.0
"""The reference trainer's model: a Llama-style decoder over bytes, in fp32, built from a manifest's numbers only."""

from collections.abc import Iterator
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from federation.errors import ConfigError
from federation.manifest import Alias, ModelSettings
from site_agent.trainer.data import BEGIN_OF_TEXT


def build_model(settings: ModelSettings) -> torch.nn.Module:
    """A `LlamaForCausalLM` with freshly drawn fp32 parameters from torch's global generator.

    Attention is written out ("eager"): its backward pass gives the same bits in every run on every device.

    Raises:
        ConfigError: the numbers do not make a model.
    """
    _check(settings)
    config = LlamaConfig(
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        num_key_value_heads=settings.num_kv_heads,
        max_position_embeddings=settings.max_positions,
        vocab_size=settings.vocab_size,
        tie_word_embeddings=settings.tie_embeddings,
        bos_token_id=BEGIN_OF_TEXT,
        eos_token_id=BEGIN_OF_TEXT,
        use_cache=False,
        attention_dropout=0.0,
        attn_implementation="eager",
    )
    model: torch.nn.Module = LlamaForCausalLM(config).to(torch.float32)
    return model


def trainable_parameters(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Canonical name and live parameter, each storage once, in the model's order."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def layers_of(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The decoder's layers, first to last: what is sharded one by one."""
    decoder: Any = model
    yield from decoder.model.layers


def aliases(model: torch.nn.Module) -> tuple[Alias, ...]:
    """Names that share the storage of a parameter that has another canonical name (tied weights), ascending."""
    canonical = {id(p): name for name, p in model.named_parameters()}
    everything = model.named_parameters(remove_duplicate=False)
    found = [Alias(name=n, of=canonical[id(p)]) for n, p in everything if canonical[id(p)] != n]
    return tuple(sorted(found, key=lambda alias: alias.name))


def _check(settings: ModelSettings) -> None:
    if settings.vocab_size <= BEGIN_OF_TEXT:
        raise ConfigError(f"model.vocab_size: expected more than {BEGIN_OF_TEXT}, found {settings.vocab_size}")
    if settings.hidden_size % (2 * settings.num_heads):
        raise ConfigError(
            f"model.hidden_size: expected a multiple of 2 * num_heads = {2 * settings.num_heads}, "
            f"found {settings.hidden_size}"
        )
    if settings.num_heads % settings.num_kv_heads:
        raise ConfigError(
            f"model.num_kv_heads: expected a divisor of num_heads = {settings.num_heads}, found {settings.num_kv_heads}"
        )
