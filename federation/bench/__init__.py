# SPDX-License-Identifier: Apache-2.0
"""Measurements that anybody can repeat: each figure beside one measured in the same run."""
