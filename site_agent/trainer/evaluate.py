# SPDX-License-Identifier: Apache-2.0
"""Bits per byte per language on a fixed budget of held-out text or token ids, one batch at a time."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from federation.leaves import LanguageScore
from federation.text_split import Split
from site_agent.trainer.data import load_split, with_inputs
from site_agent.trainer.data_bytes import Bytes
from site_agent.trainer.data_sources import HeldOutTokens

Progress: TypeAlias = Iterator[tuple[LanguageScore, ...] | None]
"""None after each batch; the scores as the last item."""


def held_out_texts(data_dir: Path, languages: tuple[str, ...], max_bytes: int) -> dict[str, Bytes]:
    """At most `max_bytes` held-out bytes of each language, always the same ones."""
    return {language: load_split(data_dir, language, Split.HELD_OUT, max_bytes) for language in languages}


def evaluate(
    model: torch.nn.Module, texts: Mapping[str, Bytes | HeldOutTokens], *, sequence_length: int, batch_size: int
) -> Progress:
    """Scores a model, language by language in ascending order.

    Texts are cut into pieces of `sequence_length` bytes, each after a beginning-of-text mark as in training; token ids
    into pieces of as many labels, each after the token before it. A short rest is left out unless it is all there is.
    Sums are fp64 in a fixed order. No generator is touched, so that an evaluation between two inner steps changes no
    bit of training.

    Yields:
        None after each batch, at last the scores.
    """
    scores = []
    for language in sorted(texts):
        inputs, labels, num_bytes = _cut(texts[language], sequence_length)
        nats = 0.0
        for start in range(0, len(labels), batch_size):
            nats += _nats(model, inputs[start : start + batch_size], labels[start : start + batch_size])
            yield None
        bits = nats / math.log(2) / num_bytes
        scores.append(LanguageScore(language=language, bits_per_byte=bits, num_bytes=round(num_bytes)))
    yield tuple(scores)


def evaluate_at_once(
    model: torch.nn.Module, texts: Mapping[str, Bytes | HeldOutTokens], *, sequence_length: int, batch_size: int
) -> tuple[LanguageScore, ...]:
    """The scores of `evaluate`."""
    scores: tuple[LanguageScore, ...] = ()
    for item in evaluate(model, texts, sequence_length=sequence_length, batch_size=batch_size):
        scores = item or scores
    return scores


def _cut(text: Bytes | HeldOutTokens, length: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Inputs and labels, int64[n, length], and how many bytes of text the labels are."""
    if isinstance(text, HeldOutTokens):
        inputs, labels = (_pieces(part, length) for part in (text.tokens[:-1], text.tokens[1:]))
        return torch.from_numpy(inputs), torch.from_numpy(labels), labels.size * text.bytes_per_token
    pieces = _pieces(text, length)
    return *with_inputs(pieces), float(pieces.size)


def _pieces(text: NDArray[Any], length: int) -> NDArray[Any]:
    whole = text.size // length * length
    return text[:whole].reshape(-1, length) if whole else np.atleast_2d(text)


@torch.no_grad()
def _nats(model: torch.nn.Module, inputs_BL: torch.Tensor, labels_BL: torch.Tensor) -> float:
    """Sum of -ln p(label) over a batch, int64[B, L] each."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        logits_NV = model(input_ids=inputs_BL.to(device)).logits.flatten(0, 1)
    finally:
        model.train(was_training)
    losses_N = torch.nn.functional.cross_entropy(logits_NV, labels_BL.to(device).flatten(), reduction="none")
    return float(losses_N.double().sum())
