# SPDX-License-Identifier: Apache-2.0
"""How good the generated model gets: loss over steps, bits per byte per language; curves with noise."""

import math
from functools import lru_cache
from typing import Final

from coordinator.bench import hostile
from coordinator.bench.setting import Setting
from federation.leaves import LanguageScore

ALIASES: Final = {"est_Latn": "ekk_Latn", "lav_Latn": "lvs_Latn", "sqi_Latn": "als_Latn"}
"""Other codes of the same languages: the second evaluator uses these."""

_NOT_EVERYWHERE: Final = 0.1
"""Share of (site, language) without held-out text: the site has no score for it, ever."""

_NUM_BYTES: Final = 1_000_000


def loss(num_commits: float) -> float:
    """Nats per token after so many commits: falls quickly, then slowly."""
    return 1.9 + 5.2 * math.exp(-num_commits / 35) + 0.9 * math.exp(-num_commits / 400)


@lru_cache(maxsize=64)
def true_scores(setting: Setting, num_commits: int) -> tuple[float, ...]:
    """Bits per byte of each language, before a site's noise.

    The last but one language hardly gets better; the third has got worse for the last 40 commits of the history.
    """
    found = []
    for index, language in enumerate(setting.languages):
        random = setting.random("language", language)
        floor, room, pace = random.uniform(0.72, 1.25), random.uniform(1.6, 2.6), random.uniform(0.6, 1.8)
        if index == len(setting.languages) - 2:
            pace /= 12
        score = floor + room * math.exp(-num_commits * pace / 60) + 0.35 * math.exp(-num_commits * pace / 450)
        if index == 2:
            score += 0.004 * min(40, max(0, num_commits - setting.num_rounds * 9 // 10 + 40))
        found.append(score)
    return tuple(found)


def site_scores(setting: Setting, site: str, num_commits: int) -> tuple[LanguageScore, ...]:
    """What one site measures: all sites agree within a thousandth, but the third is off in the first language.

    In a hostile setting the last site reports the first language and nonsense.
    """
    if setting.hostile and site == setting.sites[-1]:
        first = LanguageScore(language=setting.languages[0], bits_per_byte=1.5, num_bytes=_NUM_BYTES)
        return (first, *hostile.scores())
    random, position = setting.random("scores", site, num_commits), setting.sites.index(site)
    has_text = _languages_of(setting, site)
    found = []
    for index, (language, score) in enumerate(zip(setting.languages, true_scores(setting, num_commits), strict=True)):
        if language not in has_text:
            continue
        noisy = score * (1 + random.uniform(-1e-3, 1e-3)) + (0.06 if (position, index) == (2, 0) else 0.0)
        code = ALIASES.get(language, language) if position == 1 else language
        found.append(LanguageScore(language=code, bits_per_byte=noisy, num_bytes=_NUM_BYTES - index))
    return tuple(found)


@lru_cache(maxsize=1024)
def _languages_of(setting: Setting, site: str) -> frozenset[str]:
    everything = site == setting.sites[0]
    return frozenset(
        language
        for language in setting.languages
        if everything or setting.random("text", site, language).random() >= _NOT_EVERYWHERE
    )
