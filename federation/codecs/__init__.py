# SPDX-License-Identifier: Apache-2.0
"""Codecs of updates and commits: fp32, bf16, int8 and int4 in blocks, each a pure function of its input's bits."""
