# SPDX-License-Identifier: Apache-2.0
"""How fast one payload travels from a real site agent to a real coordinator over TLS, digests and fsync included.

Beside it, in the same run and in turns: a bare gRPC stream of as many bytes, and one process that writes and fsyncs
them. The site's mailbox is filled while its agent does not run; time counts from the first piece that the coordinator
has on disk to the whole blob, verified and durable. The first sample of each is dropped.
"""

import json
import os
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from federation import signing
from federation.bench.figures import machine
from federation.bench.processes import peak_bytes, wait_until
from federation.blobs.store import BlobStore
from federation.demo.children import Child, Children, command_line
from federation.durable.real import RealFileSystem
from federation.ids import COORDINATOR
from federation.mailbox.mailbox import Mailbox
from federation.messages import UpdateOffer

CONSORTIUM: Final = "bench"
SITE: Final = "sender"
PIECE_BYTES: Final = 1024 * 1024
_MAILBOX: Final = "spool/mailbox/coordinator"
_SECONDS: Final = 600.0


@dataclass(kw_only=True)
class TransferBench:
    """A coordinator, an enrolled site, and a directory for both.

    Attributes:
        num_bytes: of one payload, a multiple of 1 MiB.
        num_samples: of each kind; the first one is dropped.
    """

    base: Path
    children: Children
    num_bytes: int
    num_samples: int
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"transfer": [], "stream": [], "write": []})
    agent_peaks: list[int] = field(default_factory=list)

    @property
    def coordinator(self) -> Path:
        """The coordinator's directory."""
        return self.base / "coordinator"

    @property
    def site(self) -> Path:
        """The site's directory."""
        return self.base / SITE

    def run(self) -> dict[str, Any]:
        """Sets everything up, measures, and returns the figures."""
        coordinator = self._set_up()
        stream, port, issuer = self._start_stream()
        for number in range(self.num_samples):
            self.seconds["stream"].append(self._stream(port, issuer))
            self.seconds["write"].append(self._write())
            self.seconds["transfer"].append(self._transfer(number))
        coordinator_peak = peak_bytes(coordinator.process.pid)
        self.children.stop(stream, coordinator)
        return self._document(coordinator_peak)

    def _set_up(self) -> Child:
        run, base = self.children.run, self.base
        requests = [base / f"{name}.req" for name in ("coordinator", "operator", SITE)]
        run("federation", "consortium", "init", base / "root", "--consortium", CONSORTIUM)
        run("coordinator", "init", self.coordinator, "--request", requests[0])
        run("coordinator", "operator", "init", base / "operator", "--request", requests[1])
        run("site-agent", "init", self.site, "--request", requests[2])
        signed = run("federation", "consortium", "sign", base / "root", *requests, "--out", base / "roster", "--json")
        root = json.loads(signed)["root"]
        run("coordinator", "roster", "install", self.coordinator, base / "roster", "--root", root)
        serve = command_line("coordinator", "serve", self.coordinator, "--listen", "127.0.0.1:0")
        coordinator = self.children.start("coordinator", serve)
        who = ("--as", base / "operator", "--coordinator", self.coordinator)
        run("coordinator", "site", "invite", SITE, "--out", base / "invite", *who)
        run("site-agent", "enroll", self.site, "--invite", base / "invite", "--root", root)
        run("site-agent", "courier", "set", self.site, "grpc")
        return coordinator

    def _start_stream(self) -> tuple[Child, int, bytes]:
        argv = [*command_line("federation")[:2], "-m", "federation.rpc.bare_stream"]
        child = self.children.start("stream", argv)
        wait_until(lambda: child.log.exists() and child.log.read_text().endswith("\n"), 60.0, "the bare stream")
        port, issuer = child.log.read_text().split()
        return child, int(port), bytes.fromhex(issuer)

    def _stream(self, port: int, issuer: bytes) -> float:
        from federation.rpc import bare_stream

        return bare_stream.send(port, issuer, self.num_bytes // PIECE_BYTES)

    def _write(self) -> float:
        fs, piece = RealFileSystem(self.base), os.urandom(PIECE_BYTES)
        start = time.monotonic()
        with fs.writer() as writer:
            for _ in range(self.num_bytes // PIECE_BYTES):
                writer.write(piece)
            writer.publish("written")
        seconds = time.monotonic() - start
        fs.remove("written")
        return seconds

    def _transfer(self, number: int) -> float:
        digest = self._post(number)
        agent = self.children.start(f"agent-{number}", command_line("site-agent", "serve", self.site))
        box = self.coordinator / "mailbox" / SITE
        begun, whole = box / "partial" / f"{digest}.part", box / "in" / "blobs" / digest
        stored = self.coordinator / "blobs" / digest[:2] / digest
        wait_until(lambda: begun.exists() or whole.exists(), _SECONDS, "the first piece", self.children.check)
        start = time.monotonic()
        wait_until(lambda: whole.exists() or stored.exists(), _SECONDS, "the whole blob", self.children.check)
        seconds = time.monotonic() - start
        wait_until(stored.exists, _SECONDS, "the blob in the store", self.children.check)
        self.agent_peaks.append(peak_bytes(agent.process.pid))
        self.children.stop(agent)
        BlobStore(RealFileSystem(self.site), "spool/blobs").delete(digest)
        return seconds

    def _post(self, number: int) -> str:
        """An offer that no coordinator takes for an update: what is measured is its payload's way."""
        fs = RealFileSystem(self.site)
        blobs = BlobStore(fs, "spool/blobs")
        piece = os.urandom(PIECE_BYTES - 8)
        with blobs.writer() as sink:
            for index in range(self.num_bytes // PIECE_BYTES):
                sink.write(index.to_bytes(8, "little") + piece)
            digest = sink.finish()
        key = signing.load_private_key(fs, "keys/update.pem")
        box = Mailbox(fs, _MAILBOX, blobs, SITE, COORDINATOR, CONSORTIUM, key)
        box.post(UpdateOffer(signed_update=str(number).encode()), blobs=(digest,))
        return digest

    def _document(self, coordinator_peak: int) -> dict[str, Any]:
        kept = {name: samples[1:] or samples for name, samples in self.seconds.items()}
        rates = {name: self.num_bytes / statistics.median(samples) for name, samples in kept.items()}
        slower = min(rates["stream"], rates["write"])
        return {
            "machine": machine(),
            "num_bytes": self.num_bytes,
            "num_samples": len(kept["transfer"]),
            "median_transfer_seconds": statistics.median(kept["transfer"]),
            "transfer_bytes_per_second": rates["transfer"],
            "bare_stream_bytes_per_second": rates["stream"],
            "write_and_fsync_bytes_per_second": rates["write"],
            "transfer_over_slower_reference": rates["transfer"] / slower,
            "agent_peak_bytes": max(self.agent_peaks),
            "coordinator_peak_bytes": coordinator_peak,
            "seconds": {name: [round(value, 4) for value in samples] for name, samples in kept.items()},
        }
