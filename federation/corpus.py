# SPDX-License-Identifier: Apache-2.0
"""A corpus that needs no download: text in the Union's official languages, generated from CLDR's locale data.

Dates, amounts, measures, spelled numbers, and lists of countries and languages, as each language writes them. It is
small and simple, but a model learns real words, inflections and alphabets from it, and languages differ as they do in
real text. Everything follows from (languages, size, seed) and the installed versions of Babel and num2words.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Final

from babel import Locale, dates, lists, numbers, units
from num2words import CONVERTER_CLASSES, num2words

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError

# fmt: off
LANGUAGES: Final = (
    "bg", "cs", "da", "de", "el", "en", "es", "et", "fi", "fr", "ga", "hr",
    "hu", "it", "lt", "lv", "mt", "nl", "pl", "pt", "ro", "sk", "sl", "sv",
)
# fmt: on
"""The 24 official languages of the European Union, ISO 639-1."""

_UNITS: Final = (
    "length-kilometer",
    "length-meter",
    "length-centimeter",
    "mass-kilogram",
    "mass-gram",
    "volume-liter",
    "area-square-kilometer",
    "area-hectare",
    "duration-hour",
    "duration-minute",
    "duration-week",
    "duration-month",
    "temperature-celsius",
    "speed-kilometer-per-hour",
    "energy-kilowatt-hour",
    "power-megawatt",
    "digital-gigabyte",
)
_CURRENCIES: Final = ("EUR", "PLN", "CZK", "SEK", "DKK", "HUF", "RON", "BGN", "GBP", "CHF", "NOK", "USD")
_FIRST_DAY: Final = date(1950, 1, 1)
_NUM_DAYS: Final = 365 * 80


def write_corpus(directory: Path, languages: Iterable[str], bytes_per_language: int, seed: int = 0) -> dict[str, int]:
    """Writes `<language>.txt` (UTF-8, one short text a line) for each language.

    Returns:
        Bytes written per language: the first whole line at or above `bytes_per_language`.

    Raises:
        ConfigError: a language is none of `LANGUAGES`.
    """
    fs = RealFileSystem(directory)
    sizes = {}
    for language in languages:
        data = corpus_text(language, bytes_per_language, seed)
        fs.write(f"{language}.txt", data)
        sizes[language] = len(data)
    return sizes


def corpus_text(language: str, num_bytes: int, seed: int = 0) -> bytes:
    """Generated text of one language: whole lines, at least `num_bytes`.

    Raises:
        ConfigError: the language is none of `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise ConfigError(f"language: expected one of {', '.join(LANGUAGES)}, found {language!r:.40}")
    text = bytearray()
    for line in _Writer(language, seed).lines():
        text += line.encode() + b"\n"
        if len(text) >= num_bytes:
            break
    return bytes(text)


class _Writer:
    """Lines of one language, without end."""

    def __init__(self, language: str, seed: int) -> None:
        self._language = language
        self._locale = Locale(language)
        self._random = Random(f"{seed}/{language}")
        self._phrases: list[Callable[[], str]] = [
            self._date,
            self._moment,
            self._amount,
            self._countries,
            self._languages,
            self._distance_in_time,
            self._share,
            self._country_and_amount,
        ]
        self._figures = [self._amount]
        if self._known_units:
            self._figures.append(self._measure)
            self._phrases.append(self._measure)
        if language in CONVERTER_CLASSES:
            self._phrases += [self._spelled, self._spelled]

    def lines(self) -> Iterator[str]:
        while True:
            phrases = [self._random.choice(self._phrases)() for _ in range(self._random.randrange(1, 5))]
            line = ", ".join(" ".join(phrase.split()) for phrase in phrases)
            yield line[:1].upper() + line[1:] + "."

    @cached_property
    def _territories(self) -> list[str]:
        return _names(self._locale.territories)

    @cached_property
    def _tongues(self) -> list[str]:
        return _names(self._locale.languages)

    @cached_property
    def _known_units(self) -> list[str]:
        """Units that CLDR names in this language; Babel writes the id of others."""
        return [u for u in _UNITS if u not in units.format_unit(2, u, "long", locale=self._locale)]

    def _day(self) -> date:
        return _FIRST_DAY + timedelta(days=self._random.randrange(_NUM_DAYS))

    def _number(self) -> int:
        """Small numbers more often than large ones."""
        return self._random.randrange(1, 10 ** self._random.randrange(1, 6))

    def _date(self) -> str:
        style = self._random.choice(("full", "long", "medium"))
        return str(dates.format_date(self._day(), style, locale=self._locale))

    def _moment(self) -> str:
        clock = time(self._random.randrange(24), self._random.randrange(60))
        return f"{self._date()}, {dates.format_time(clock, 'short', locale=self._locale)}"

    def _amount(self) -> str:
        cents = self._random.choice((0, 0, 50, self._random.randrange(100)))
        currency = self._random.choice(_CURRENCIES)
        value = self._number() + cents / 100
        return str(numbers.format_currency(value, currency, locale=self._locale, format_type="name"))

    def _measure(self) -> str:
        unit = self._random.choice(self._known_units)
        return str(units.format_unit(self._number(), unit, "long", locale=self._locale))

    def _countries(self) -> str:
        return self._list(self._territories)

    def _languages(self) -> str:
        return self._list(self._tongues)

    def _list(self, names: list[str]) -> str:
        chosen = self._random.sample(names, self._random.randrange(1, 4))
        return str(lists.format_list(chosen, style=self._random.choice(("standard", "or")), locale=self._locale))

    def _distance_in_time(self) -> str:
        unit = self._random.choice((timedelta(hours=1), timedelta(days=1), timedelta(days=30), timedelta(days=365)))
        delta = unit * self._random.choice((-1, 1)) * self._random.randrange(1, 20)
        return str(dates.format_timedelta(delta, add_direction=True, locale=self._locale))

    def _share(self) -> str:
        share = numbers.format_percent(self._random.randrange(1, 1000) / 1000, "#,##0.#%", locale=self._locale)
        return f"{self._random.choice(self._territories)}: {share}"

    def _country_and_amount(self) -> str:
        return f"{self._random.choice(self._territories)}: {self._random.choice(self._figures)()}"

    def _spelled(self) -> str:
        number = self._number()
        return f"{numbers.format_decimal(number, locale=self._locale)} – {num2words(number, lang=self._language)}"


def _names(table: Mapping[str, str]) -> list[str]:
    """Names of a CLDR table with codes of two characters, in the order of the codes."""
    return [table[code] for code in sorted(table) if len(code) == 2]
