# SPDX-License-Identifier: Apache-2.0
"""An agent's own metrics: a pure projection, a file for node_exporter's textfile collector, HTTP where asked for."""
