# SPDX-License-Identifier: Apache-2.0
"""A site's data as a job uses them: the source of its training sequences, and its held-out data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federation.durable.real import RealFileSystem
from federation.manifest import Manifest
from federation.text_split import Split
from site_agent.data_sets import DataFormat, DataSet, UnknownFormatError, VocabularyError, where
from site_agent.jobs import WorkOrder
from site_agent.trainer.data import BytePool, Pool, SequenceSource, simple_set, text_files
from site_agent.trainer.data_bytes import Bytes, DataCache, first_bytes, text_of
from site_agent.trainer.data_documents import files_of
from site_agent.trainer.data_megatron import TokenPool, held_out_tokens, open_tokens


@dataclass(frozen=True, kw_only=True)
class HeldOutTokens:
    """Held-out token ids of a language, and how many bytes of text stand behind one on average."""

    tokens: NDArray[np.int64]
    bytes_per_token: float


@dataclass(frozen=True, kw_only=True)
class SiteData:
    """What a site has: its data sets in their order, and the files of each."""

    sets: tuple[DataSet, ...]
    files: tuple[tuple[Path, ...], ...]

    @classmethod
    def of(cls, sets: Sequence[DataSet], data_dir: str = "", languages: Sequence[str] = ()) -> "SiteData":
        """The named data sets, or without any the texts of these languages in `data_dir`.

        Raises:
            ConfigError: a file is missing, or bytes and token ids are mixed.
        """
        if not sets:
            simple = tuple(simple_set(Path(data_dir), language) for language in languages)
            return cls(sets=simple, files=tuple(tuple(text_files(Path(data_dir), s.language)) for s in simple))
        for data in sets:
            if data.format not in list(DataFormat):
                raise UnknownFormatError(f"{where(data.name)}: expected {', '.join(DataFormat)}, found another format")
        if len({data.format is DataFormat.MEGATRON for data in sets}) > 1:
            expected = "token ids throughout, or bytes throughout (text, jsonl)"
            raise VocabularyError(f"{where(sets[0].name)}: expected {expected}, found both among the data sets")
        return cls(sets=tuple(sets), files=tuple(files_of(data) for data in sets))

    def source(self, manifest: Manifest, site: str, seed: int, cache: DataCache | None = None) -> SequenceSource:
        """Training sequences; the run's seed and the site's own order them.

        Raises:
            DataError: see `site_agent.data_sets`.
        """
        settings = manifest.trainer
        pools = [self._pool(data, files, manifest, cache) for data, files in zip(self.sets, self.files, strict=True)]
        return SequenceSource(
            pools,
            sequence_length=settings.sequence_length,
            seed=settings.seed + seed,
            site=site,
            weights=[data.weight for data in self.sets],
            languages=[data.language for data in self.sets],
        )

    def held_out(self, max_bytes: int) -> dict[str, Bytes | HeldOutTokens]:
        """Per language at most so many held-out bytes, its data sets in their order, always the same ones.

        Token ids whose bytes per token are not stated cannot be scored in bits per byte and are left out.

        Raises:
            DataError: see `site_agent.data_sets`.
        """
        found: dict[str, Bytes | HeldOutTokens] = {}
        for language in dict.fromkeys(data.language for data in self.sets):
            scored = self._held_out(language, max_bytes)
            if scored is not None:
                found[language] = scored
        return found

    def _pool(self, data: DataSet, files: tuple[Path, ...], manifest: Manifest, cache: DataCache | None) -> Pool:
        if data.format is DataFormat.MEGATRON:
            return TokenPool(data, open_tokens(data, files), manifest.model.vocab_size)
        return BytePool(text_of(data, Split.TRAIN, cache, files))

    def _held_out(self, language: str, max_bytes: int) -> Bytes | HeldOutTokens | None:
        mine = [pair for pair in zip(self.sets, self.files, strict=True) if pair[0].language == language]
        if mine[0][0].format is DataFormat.MEGATRON:
            return _held_out_tokens(mine, max_bytes)
        parts: list[Bytes] = []
        for data, files in mine:
            left = max_bytes - sum(part.size for part in parts)
            if left > 0:
                parts.append(first_bytes(data, Split.HELD_OUT, left, files))
        return np.concatenate(parts)


def _held_out_tokens(mine: Sequence[tuple[DataSet, tuple[Path, ...]]], max_bytes: int) -> HeldOutTokens | None:
    """Of the first data set that says how many bytes its tokens stand for."""
    for data, files in mine:
        if data.bytes_per_token > 0:
            tokens = held_out_tokens(open_tokens(data, files), int(max_bytes / data.bytes_per_token))
            if tokens.size > 1:
                return HeldOutTokens(tokens=tokens, bytes_per_token=data.bytes_per_token)
    return None


def data_of(order: WorkOrder) -> SiteData:
    """The data that a work order names. Raises ConfigError."""
    return SiteData.of(order.data_sets, order.data_dir, order.languages)


def source_of(manifest: Manifest, order: WorkOrder) -> SequenceSource:
    """Training sequences of a job; what must be decoded is kept in the run's directory in the spool.

    Raises:
        ConfigError: the data are not what the order says.
        DiskFullError: no space to decode them.
    """
    cache = DataCache(fs=RealFileSystem(Path(order.run_dir)))
    source = data_of(order).source(manifest, order.site, order.seed, cache)
    cache.prune()
    return source
