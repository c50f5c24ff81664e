# SPDX-License-Identifier: Apache-2.0
"""A plain torch loop inside a run: `python -m plain_torch ALLOCATION_DIR`.

Three lines make it part of a run: `join` before the loop, `session.running` as its condition, `session.step` at its
end. Everything else is the program's own: model, optimizer, data, clipping.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from federation.errors import FederationError
from site_agent.inner_loop import join

CONTEXT = 8
BATCH = 16


class ByteModel(torch.nn.Module):
    """Guesses a byte from the eight before it. Its parameters are fp32: what `join` exchanges."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(256, 8)
        self.hidden = torch.nn.Linear(8 * CONTEXT, 32)
        self.dropout = torch.nn.Dropout(0.1)
        self.out = torch.nn.Linear(32, 256)

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        """Logits f32[N, 256] of contexts i64[N, CONTEXT]."""
        embedded = self.embedding(context).flatten(1)
        return self.out(self.dropout(torch.relu(self.hidden(embedded))))


class Texts:
    """The site's texts in batches. Its position is part of the training checkpoint: `state` of `join`."""

    def __init__(self, data_dir: Path, languages: list[str]) -> None:
        data = b"".join((data_dir / f"{language}.txt").read_bytes() for language in languages)
        self._bytes = torch.frombuffer(bytearray(data), dtype=torch.uint8).long()
        self._position = 0

    def next_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Contexts i64[BATCH, CONTEXT] and the bytes i64[BATCH] that follow them."""
        starts = (torch.arange(BATCH) * 97 + self._position) % (len(self._bytes) - CONTEXT)
        self._position += 1
        windows = self._bytes[starts[:, None] + torch.arange(CONTEXT + 1)]
        return windows[:, :-1], windows[:, -1]

    def state_dict(self) -> Any:
        """JSON values."""
        return {"position": self._position}

    def load_state_dict(self, state: Any) -> None:
        """Puts it back."""
        self._position = state["position"]


def train(allocation: Path) -> None:
    """Until the session says that it is over."""
    order = json.loads((allocation / "order.json").read_text())  # what site.toml says about data and seed
    torch.manual_seed(order["seed"])
    torch.set_num_threads(order["num_threads"])
    model, texts = ByteModel(), Texts(Path(order["data_dir"]), order["languages"])
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)  # the session sets the learning rate

    session = join(model, optimizer, state=texts, allocation=allocation)
    while session.running:
        contexts, labels = texts.next_batch()
        loss = torch.nn.functional.cross_entropy(model(contexts), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        session.step(loss.item(), tokens=labels.numel())


def main(arguments: list[str]) -> int:
    """The process's exit status. A reason is already in the allocation's `ended.json`."""
    try:
        train(Path(arguments[0]))
    except FederationError as error:
        print(error.diagnostics(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
