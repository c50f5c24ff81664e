# SPDX-License-Identifier: Apache-2.0
"""`federation demo`: a whole federation on one machine, each party a process of its own."""
