# SPDX-License-Identifier: Apache-2.0
"""The sites' part of `federation bench`: jobs that do all that a real one does but train. Started as processes only."""
