# SPDX-License-Identifier: Apache-2.0
"""The only place that writes, fsyncs, renames, appends, links or removes files. See `federation.durable.api`."""

from federation.durable.api import Appender, BlobWriter, FileSystem, RandomWriter
from federation.durable.failpoints import failpoint

__all__ = ["Appender", "BlobWriter", "FileSystem", "RandomWriter", "failpoint"]
