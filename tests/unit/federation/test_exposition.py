# SPDX-License-Identifier: Apache-2.0
"""Samples become text that a scraper reads, whatever is in their labels."""

from math import inf, nan

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from federation.exposition import MAX_LABEL_CHARS, counter, declared, exposition, foreign, gauge, info

AGE = gauge("x_age_seconds", "How old.", "site")
SENT = counter("x_sent_bytes_total", "What was sent.", "site", "run")
WHO = info("x_info", "Who it is.", "software")
SAMPLES = (WHO.of(1, "one"), AGE.of(1.5, "alpha"), SENT.of(3, "alpha", "r1"), AGE.of(nan, "beta"), AGE.of(inf, "gamma"))

TEXT = """\
# HELP x_info Who it is.
# TYPE x_info gauge
x_info{software="one"} 1.0
# HELP x_age_seconds How old.
# TYPE x_age_seconds gauge
x_age_seconds{site="alpha"} 1.5
x_age_seconds{site="beta"} NaN
x_age_seconds{site="gamma"} +Inf
# HELP x_sent_bytes_total What was sent.
# TYPE x_sent_bytes_total counter
x_sent_bytes_total{run="r1",site="alpha"} 3.0
"""


def test_text_by_families_in_the_order_of_their_first_sample() -> None:
    found = exposition(SAMPLES)
    assert found.body.decode() == TEXT
    assert found.content_type.startswith("text/plain; version=0.0.4")


def test_openmetrics_where_it_is_asked_for() -> None:
    found = exposition(SAMPLES, "application/openmetrics-text; version=1.0.0")
    assert found.content_type.startswith("application/openmetrics-text")
    families = {family.name: family for family in parse_openmetrics(found.body.decode())}
    assert {name: (family.type, family.unit) for name, family in families.items()} == {
        "x": ("info", ""),
        "x_age_seconds": ("gauge", "seconds"),
        "x_sent_bytes": ("counter", "bytes"),
    }


@pytest.mark.parametrize("accept", ["", "text/html", ";;,=,"])
def test_a_scraper_that_asks_for_something_else_gets_text(accept: str) -> None:
    assert exposition(SAMPLES, accept).body.decode() == TEXT


def test_what_is_in_a_label_stays_in_it() -> None:
    hostile = 'a"} 1\nx_age_seconds{site="\\'
    (family,) = parse_text(exposition([AGE.of(2, hostile)]).body.decode())
    (sample,) = family.samples
    assert (sample.labels, sample.value) == ({"site": hostile}, 2.0)


def test_words_of_a_peer_are_bounded_and_print() -> None:
    assert foreign("a\x00b\nc\u202ed<e>" + 1000 * "é") == "abcd<e>" + (MAX_LABEL_CHARS - 10) * "é"


def test_a_sample_with_another_number_of_labels_is_a_bug() -> None:
    with pytest.raises(ValueError):
        exposition([AGE.of(1)])
    with pytest.raises(ValueError):
        exposition([AGE.of(1, "alpha", "r1")])


def test_a_catalogue_lists_its_metrics_in_order() -> None:
    assert declared({"B": WHO, "A": AGE, "X": "x_none"}) == (WHO, AGE)
