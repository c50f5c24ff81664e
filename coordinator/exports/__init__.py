# SPDX-License-Identifier: Apache-2.0
"""A run's tables as files for other programs: Parquet, CSV, JSON, TensorBoard."""
