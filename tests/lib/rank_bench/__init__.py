# SPDX-License-Identifier: Apache-2.0
"""Jobs of several ranks as real processes on this machine, over gloo on loopback."""
