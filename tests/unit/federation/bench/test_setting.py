# SPDX-License-Identifier: Apache-2.0
"""run.toml of benchmarks obeys the rules of every run.toml."""

import pytest

from federation.bench.setting import RUN, WorldSetting
from federation.codecs.registry import uplink_names
from federation.manifest import Manifest
from federation.run_config import parse_run_config, resolve


def manifest_of(setting: WorldSetting) -> Manifest:
    return resolve(parse_run_config(setting.toml()))


@pytest.mark.parametrize("codec", uplink_names())
def test_every_codec_makes_a_run(codec: str) -> None:
    manifest = manifest_of(WorldSetting(codec=codec, num_sites=3, num_rounds=7))
    assert (manifest.run, manifest.plan.num_rounds, len(manifest.plan.members)) == (RUN, 7, 3)
    assert (manifest.codecs.up, manifest.codecs.down) == (codec, "sparse-down" if codec == "sparse" else codec)
    assert manifest.codecs.error_feedback == (codec == "sparse")


def test_all_sites_are_required() -> None:
    assert manifest_of(WorldSetting(num_sites=5)).plan.quorum_sites == 5


def test_a_streaming_schedule() -> None:
    setting = WorldSetting(num_inner_steps=40, num_fragments=4, tau=10, alpha=0.25)
    manifest = manifest_of(setting)
    assert (manifest.plan.num_fragments, manifest.plan.tau, manifest.alpha) == (4, 10, 0.25)


def test_more_keys_can_be_given_and_win() -> None:
    setting = WorldSetting(run_toml={"outer": {"lr": "0.125"}, "run": {"snapshot_every_rounds": "3"}})
    manifest = manifest_of(setting)
    assert (manifest.outer.lr, manifest.snapshot_every_rounds) == (0.125, 3)


def test_many_sites_keep_their_order() -> None:
    assert list(WorldSetting(num_sites=16).sites) == sorted(WorldSetting(num_sites=16).sites)
