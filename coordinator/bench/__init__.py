# SPDX-License-Identifier: Apache-2.0
"""What benchmarks and browser tests of the coordinator's views look at. Not imported by the coordinator itself."""
