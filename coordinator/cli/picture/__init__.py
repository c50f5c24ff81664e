# SPDX-License-Identifier: Apache-2.0
"""A run's document as lines of a terminal: pure functions of document, time and width, no terminal and no clock.

Whatever a document holds, from another release's coordinator or from a hostile site, a line comes out no wider than
asked for, without control characters. Fields that an older coordinator does not send are left out.
"""
