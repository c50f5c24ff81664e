# SPDX-License-Identifier: Apache-2.0
"""Documents of runs as a coordinator sends them: small, large, and hostile. No coordinator is asked."""

from typing import Any

Document = dict[str, Any]

NOW = 1_790_000_000.0
"""Unix seconds at which the documents are looked at."""

LANGUAGES = [first + second for first in "abcdef" for second in "stuvwx"]
HOSTILE = "[red]evil[/red] \x1b[2J\x1b]0;owned\x07 \u202egnp.exe\n\r\tx\x00 :skull: " + "A" * 400


def site(**changes: Any) -> Document:
    """A site that trains."""
    made = {
        "state": "active",
        "allocation": "ready",
        "phase": "training",
        "round": 1,
        "step": 3,
        "loss": 2.5,
        "last_seen": NOW - 4,
        "seconds_per_step": 1.25,
        "waits_for_witnesses": False,
        "num_steps": 125,
        "seconds_left": 7000,
        "start_in_seconds": 0,
        "allocation_log": [[NOW - 4000, "queued"], [NOW - 1000, "ready"]],
    }
    return {**made, **changes}


def verdict(outcome: str = "admitted", reason: str = "none", sentence: str = "") -> Document:
    """One site's verdict."""
    return {"outcome": outcome, "reason": reason, "sentence": sentence, "norm": 1.0}


def opened(number: int, sites: list[str], state: str = "committed", **changes: Any) -> Document:
    """A round of 200 seconds that begins every 100; of a state that ended, all were admitted."""
    at = NOW - 100 * (20 - number)
    ended = state not in ("open", "sealed")
    made = {
        "round": number,
        "fragment": number % 4,
        "state": state,
        "invited": sites,
        "verdicts": {name: verdict() for name in sites} if ended else {},
        "verdicts_at_us": {name: int((at + 150) * 1e6) for name in sites} if ended else {},
        "phases": {name: phases(at) for name in sites},
        "blob_bytes": 12_345_678,
        "payload_bytes": 345_678_901,
        "opened_at_us": int(at * 1e6),
        "sealed_at_us": int((at + 160) * 1e6) if ended else 0,
        "ended_at_us": int((at + 200) * 1e6) if ended else 0,
        "sentence": "",
    }
    return {**made, **changes}


def phases(at: float) -> Document:
    """Training from 10 seconds on, uploading from 120 on."""
    return {"answered_at": at + 5, "training_at": at + 10, "uploading_at": at + 120}


def scored(name: str, commits: int, score: float, languages: list[str] | None = None) -> Document:
    """One site's scores, each language a little worse than the one before."""
    found = languages if languages is not None else LANGUAGES
    return {
        "site": name,
        "commits": commits,
        "bits_per_byte": {language: score + index / 50 for index, language in enumerate(found)},
        "num_bytes": dict.fromkeys(found, 1000),
    }


def run_document(names: list[str] | None = None, **changes: Any) -> Document:
    """A running run with rounds 17 and 18 committed and 19 open."""
    sites = names if names is not None else ["alpha", "beta", "gamma"]
    made: Document = {
        "run": "demo",
        "state": "running",
        "commits": 18,
        "rounds": 100,
        "sites": sites,
        "reason": "",
        "state_since_us": int((NOW - 7200) * 1e6),
        "commits_at_us": [int((NOW - 100 * left) * 1e6) for left in range(18, 0, -1)],
        "forecast": {"seconds_per_commit": 100.0, "num_commits": 18, "ends_at_us": int((NOW + 8100) * 1e6)},
        "approved_by": ["olga"],
        "answers": {name: {"accepted": True, "reason": "none"} for name in sites},
        "missed": {},
        "sites_now": {name: site(round=19) for name in sites},
        "suggested_starts": "",
        "cannot_open": "",
        "problems": [],
        "plan": {"num_fragments": 4, "num_inner_steps": 500},
        "round_log": [opened(17, sites), opened(18, sites), opened(19, sites, "open")],
        "evaluations": [scored(name, commits, 4.0 - commits / 10) for name in sites for commits in (0, 18)],
        "bytes": {"up": 10**12, "down": 10**11, "tokens": 10**9},
        "witnesses": {"quorum": 2, "leaf": 70, "cosigned_by": sites, "missing": []},
        "ledger": {"size": 90, "root": "0" * 64, "witnessed": dict.fromkeys(sites, 90)},
    }
    return {**made, **changes}


def large_document() -> Document:
    """20 sites with ids of 40 characters, 36 languages, four rounds open, misses, long sentences, things to do."""
    names = [f"{chr(97 + i)}{'-supercomputing-centre' * 2}"[:38] + f"{i:02d}" for i in range(20)]
    why = "first word allowed 3600 s, waited 3612.4 s, and that is all that is known of it at this time"
    late = {name: verdict() for name in names[:15]}
    late |= {name: verdict("missed", "no-answer", f"{name}: {why}") for name in names[15:]}
    rounds = [opened(n, names) for n in range(10, 14)]
    rounds.append(opened(14, names, verdicts=late))
    rounds.append(opened(15, names, "abandoned", verdicts=late, sentence=f"no quorum: {why}"))
    rounds += [opened(n, names, "open") for n in range(16, 20)]
    sites = {name: site(round=99_999, step=4_999, num_steps=12_500, loss=12.345) for name in names}
    sites[names[3]] = site(allocation="queued", round=None, start_in_seconds=90_000)
    sites[names[7]] = site(last_seen=NOW - 86_400 * 3)
    sites[names[9]] = site(last_seen=None, allocation="none", round=None)
    missed = {name: {"not invited": 12, "missed: no-answer": 3, "rejected: norm-too-large": 1} for name in names}
    evaluations = [scored(name, commits, 4 - commits / 90) for name in names for commits in (0, 18)]
    made = run_document(names, sites_now=sites, round_log=rounds, missed=missed, evaluations=evaluations)
    made["problems"] = [f"run demo: no round can open, too few sites are ready: 3 of 20 sites ({', '.join(names)})"] * 5
    made["suggested_starts"] = "expected starts: " + ", ".join(f"{name} in 3 hours" for name in names)
    made["ledger"]["witnessed"] = {name: 90 - i for i, name in enumerate(names)}
    made["witnesses"] = {"quorum": 11, "leaf": 80, "cosigned_by": names[:9], "missing": names[9:]}
    return made


def hostile_document() -> Document:
    """Every text is an attack on the terminal, or longer than any terminal; every figure is out of range."""
    name = "evil[/]" + "\x1b[31m"
    huge = HOSTILE + "B" * 1_000_000
    made = run_document(
        [name, huge],
        run=HOSTILE,
        reason=huge,
        state=HOSTILE,
        suggested_starts=huge,
        problems=[huge] * 100,
        missed={name: {huge: 10**30}, huge: {HOSTILE: 1}},
        bytes={"up": 10**40, "down": float("inf"), "tokens": 10**40},
        forecast={"seconds_per_commit": 1e300, "num_commits": 10**30, "ends_at_us": 10**30},
    )
    bad = {"state": huge, "outcome": huge, "reason": huge, "sentence": huge}
    for found in made["round_log"]:
        found["verdicts"] = {name: bad, huge: bad}
        found["state"], found["sentence"], found["round"] = huge, huge, 10**40
    made["sites_now"][name] = site(state=huge, phase=huge, allocation=huge, loss=float("nan"), step=10**50)
    made["sites_now"][huge] = site(step=-(10**50), num_steps=10**50, last_seen=-1e300, loss=1e300)
    made["evaluations"] = [scored(name, 0, float("nan")), scored(huge, 18, 1e300, [huge, "\x1b[2J", *LANGUAGES])]
    made["ledger"] = {"size": 90, "root": huge, "witnessed": {name: -(10**30)}}
    return made
