# SPDX-License-Identifier: Apache-2.0
"""Compiled arithmetic of the update path; the functions in `federation.codecs` and beside them are its reference."""
