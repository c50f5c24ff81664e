# SPDX-License-Identifier: Apache-2.0
"""The pages: each a pure function of a `View`, the time and what was asked for."""
