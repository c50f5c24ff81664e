# SPDX-License-Identifier: Apache-2.0
"""int4 and int8 on an accelerator (CUDA and ROCm, by Triton): the bytes of `federation.codecs`, in one pass.

The only package of `federation` that imports torch and Triton; a job imports it when its shards live on a device.
"""
