# SPDX-License-Identifier: Apache-2.0
"""Payloads encoded on the accelerator that holds the local parameters, which never leave it.

Theta and adopted feedback go there, chunk by chunk; payload and the feedback's candidate come back.
A device is used after it has shown that it gives the CPU's bits; otherwise the job says why and encodes on the CPU.
Triton is imported only where there is a device, and need not be installed.
"""

import logging
from collections.abc import Sequence

import torch

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.errors import FederationError
from federation.piece_hashes import PieceHashes
from site_agent.inner_loop.encoding import Feedback, Sink

_log = logging.getLogger(__name__)


class DeviceEncoding:
    """One codec on the devices that a job trains on."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._answers: dict[torch.device, bool] = {}

    def is_ready(self, device: torch.device) -> bool:
        """Whether `encode` can be used there. Found out once; the answer is logged, with its reason if it is no."""
        if device not in self._answers:
            self._answers[device] = _gives_the_bits(self._codec, device)
        return self._answers[device]

    def encode(
        self,
        theta: Float32Vector,
        local: Sequence[torch.Tensor],
        payload: ByteVector,
        *,
        feedback: Feedback | None,
        sink: Sink,
    ) -> str:
        """What `encoding.encode_fragment` does, to the bit: payload, feedback's candidate, digest.

        Args:
            local: flat fp32 tensors on one device that is ready, one after the other as long as theta.

        Raises:
            NonFiniteUpdateError: a value is NaN or infinite, or the codec cannot hold it.
        """
        from federation.codecs_device.fragment import Pieces, encode_fragment_on_device

        hashes = PieceHashes(payload.data)

        def filled(start: int, stop: int) -> None:
            hashes.filled(start, stop)
            sink(payload[start:stop].data)

        adopted, beta, candidate = feedback or (None, 0.0, None)
        encode_fragment_on_device(
            self._codec,
            theta,
            Pieces(local),
            payload,
            device=local[0].device,
            feedback=adopted,
            beta=beta,
            feedback_out=candidate,
            filled=filled,
        )
        return hashes.hexdigest()


def _gives_the_bits(codec: Codec, device: torch.device) -> bool:
    try:
        from federation.codecs_device import launch
        from federation.codecs_device.check import check_device

        if not launch.has_kernels(codec):
            _log.info("%s is encoded on the CPU: there are no kernels of it for %s", codec.name, device)
            return False
        check_device(device, [codec.name])
    except Exception as error:  # Compilers and drivers raise what they like, and the CPU can always encode.
        reason = error.diagnostics() if isinstance(error, FederationError) else f"{type(error).__name__}: {error}"
        _log.warning("%s is encoded on the CPU, not on %s, with the same result: %s", codec.name, device, reason)
        return False
    _log.info("%s is encoded on %s, which gives the CPU's bits", codec.name, device)
    return True
