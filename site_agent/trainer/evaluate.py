# SPDX-License-Identifier: Apache-2.0
"""Bits per byte per language on a fixed budget of held-out text, one batch at a time."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from federation.leaves import LanguageScore
from federation.text_split import Split
from site_agent.trainer.data import Bytes, load_split, with_inputs

Progress: TypeAlias = Iterator[tuple[LanguageScore, ...] | None]
"""None after each batch; the scores as the last item."""


def held_out_texts(data_dir: Path, languages: tuple[str, ...], max_bytes: int) -> dict[str, Bytes]:
    """At most `max_bytes` held-out bytes of each language, always the same ones."""
    return {language: load_split(data_dir, language, Split.HELD_OUT, max_bytes) for language in languages}


def evaluate(model: torch.nn.Module, texts: Mapping[str, Bytes], *, sequence_length: int, batch_size: int) -> Progress:
    """Scores a model, language by language in ascending order.

    Texts are cut into pieces of `sequence_length` bytes, each after a beginning-of-text mark as in training; a short
    rest is left out unless it is all there is. Sums are fp64 in a fixed order. No generator is touched, so that an
    evaluation between two inner steps changes no bit of training.

    Yields:
        None after each batch, at last the scores.
    """
    scores = []
    for language in sorted(texts):
        pieces = _pieces(texts[language], sequence_length)
        nats = 0.0
        for start in range(0, len(pieces), batch_size):
            nats += _nats(model, pieces[start : start + batch_size])
            yield None
        bits = nats / math.log(2) / pieces.size
        scores.append(LanguageScore(language=language, bits_per_byte=bits, num_bytes=int(pieces.size)))
    yield tuple(scores)


def evaluate_at_once(
    model: torch.nn.Module, texts: Mapping[str, Bytes], *, sequence_length: int, batch_size: int
) -> tuple[LanguageScore, ...]:
    """The scores of `evaluate`."""
    scores: tuple[LanguageScore, ...] = ()
    for item in evaluate(model, texts, sequence_length=sequence_length, batch_size=batch_size):
        scores = item or scores
    return scores


def _pieces(text: Bytes, length: int) -> Bytes:
    whole = text.size // length * length
    return text[:whole].reshape(-1, length) if whole else np.atleast_2d(text)


@torch.no_grad()
def _nats(model: torch.nn.Module, pieces: Bytes) -> float:
    """Sum of -ln p(byte) over a batch of pieces uint8[B, L]."""
    device = next(model.parameters()).device
    inputs_BL, labels_BL = (t.to(device) for t in with_inputs(pieces))
    was_training = model.training
    model.eval()
    try:
        logits_NV = model(input_ids=inputs_BL).logits.flatten(0, 1)
    finally:
        model.train(was_training)
    losses_N = torch.nn.functional.cross_entropy(logits_NV, labels_BL.flatten(), reduction="none")
    return float(losses_N.double().sum())
