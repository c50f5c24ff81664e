# SPDX-License-Identifier: Apache-2.0
"""site.toml of an agent's directory."""

from pathlib import Path

import pytest

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError
from site_agent.launcher.local import LocalLauncher
from site_agent.launcher.registry import open_launchers
from site_agent.launcher.slurm.launcher import SlurmLauncher
from site_agent.site_config import (
    SITE_FILE,
    SiteConfig,
    TrainerEntry,
    load_site_config,
    require_trainer_digests,
    trainer_digests,
)
from site_agent.site_text import site_config_text


def write(directory: Path, text: str) -> Path:
    (directory / "data").mkdir(exist_ok=True)
    (directory / SITE_FILE).write_text(text)
    return directory


def text_of(**changes: object) -> str:
    values: dict[str, object] = {"site": "lumi", "profile": "lumi", "data_dir": "data", "languages": ["de", "fr"]}
    return site_config_text(**(values | changes))  # type: ignore[arg-type]


def problems(directory: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_site_config(directory)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def test_a_new_file_is_read_back(tmp_path: Path) -> None:
    config = load_site_config(write(tmp_path, text_of()))
    assert (config.site, config.profile, config.languages) == ("lumi", "lumi", ("de", "fr"))
    assert config.data_path(tmp_path) == tmp_path / "data"
    assert config.trainers == {"reference": TrainerEntry(module="site_agent.trainer.job")}
    assert config.settings().site == "lumi"
    assert config.settings().max_failures == 5
    assert config.job.isolate_network


def test_odd_paths_survive(tmp_path: Path) -> None:
    odd = 'a "b"\\ ä\x7f'
    (tmp_path / odd).mkdir()
    config = load_site_config(write(tmp_path, text_of(data_dir=odd)))
    assert config.data_path(tmp_path) == tmp_path / odd


def test_an_absolute_data_directory(tmp_path: Path) -> None:
    config = load_site_config(write(tmp_path, text_of(data_dir=tmp_path / "data")))
    assert config.data_path(Path("/elsewhere")) == tmp_path / "data"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            'site = "lumi"',
            'site = "coordinator"',
            'site.toml: site: expected an id of its own, found "coordinator", which is reserved (line 2)',
        ),
        (
            'profile = "lumi"',
            'profile = "mars"',
            "site.toml: profile: expected one of jupiter, leonardo, localhost, lumi, marenostrum5, "
            'found "mars" (line 3)',
        ),
        ('["de", "fr"]', '["de", "de"]', "site.toml: languages: expected each language once, found de, de (line 5)"),
        (
            '["de", "fr"]',
            '["de", "../x"]',
            'site.toml: languages[2]: expected a language code such as de, deu or deu_Latn, found "../x" (line 5)',
        ),
        ('"local"', '"pbs"', "site.toml: launcher: expected 'local' or 'slurm', found \"pbs\" (line 6)"),
        ("num_threads = 1", "num_threads = 0", "site.toml: job.num_threads: expected at least 1, found 0 (line 9)"),
        (
            'device = "cpu"',
            'device = "cpu; rm"',
            'site.toml: job.device: expected a torch device such as cpu or cuda:0, found "cpu; rm" (line 11)',
        ),
        (
            '"site_agent.trainer.job"',
            '"os; x"',
            'site.toml: trainers.reference.module: expected a Python module\'s dotted name, found "os; x" (line 26)',
        ),
    ],
)
def test_one_sentence_for_each_problem(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = text_of()
    assert old in text
    assert problems(write(tmp_path, text.replace(old, new, 1))) == [sentence]


def test_data_that_are_not_there(tmp_path: Path) -> None:
    (sentence,) = problems(write(tmp_path, text_of(data_dir="nowhere")))
    expected = f"expected a directory with the site's text files, found none at {tmp_path / 'nowhere'} (line 4)"
    assert sentence == f"site.toml: data_dir: {expected}"


def test_a_new_file_with_bad_values_is_never_made() -> None:
    with pytest.raises(ConfigError, match="language code"):
        text_of(languages=["../x"])
    with pytest.raises(ConfigError, match="site: expected"):
        text_of(site="A B")


def test_gpu_hours_of_a_job() -> None:
    config = SiteConfig.model_validate(
        {"site": "a", "data_dir": "d", "languages": ["de"], "job": {"num_gpus": 4, "seconds_limit": 1800}}
    )
    assert config.num_gpus_per_job == 4


def test_a_trainers_digest_is_that_of_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "mytrainer"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "job.py").write_text("raise SystemExit('never imported')")
    (package / "deep" / "x.py").write_text("1")
    (tmp_path / "alone_job.py").write_text("1")
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = {"a": TrainerEntry(module="mytrainer.job"), "b": TrainerEntry(module="alone_job")}
    first = require_trainer_digests(entries)
    (package / "notes.txt").write_text("not source")
    (tmp_path / "other.py").write_text("not of the trainer")
    assert trainer_digests(entries) == first
    (package / "deep" / "x.py").write_text("2")
    second = trainer_digests(entries)
    assert second["a"] != first["a"]
    assert second["b"] == first["b"]
    (package / "deep" / "x.py").rename(package / "deep" / "y.py")
    assert trainer_digests(entries)["a"] != second["a"]


def test_a_trainer_that_is_not_installed() -> None:
    entries = {"a": TrainerEntry(module="no_such_package.job")}
    assert trainer_digests(entries) == {}
    with pytest.raises(ConfigError, match=r"trainers\.a\.module: expected an installed module, found 'no_such_package"):
        require_trainer_digests(entries)


def test_each_trainer_has_a_launcher_of_the_kind_that_the_site_asks_for(tmp_path: Path) -> None:
    config = load_site_config(write(tmp_path, text_of()))
    assert isinstance(open_launchers(config, RealFileSystem(tmp_path), "site-1")["reference"], LocalLauncher)
    text = (
        text_of().replace('launcher = "local"', 'launcher = "slurm"').replace("seconds_limit = 0", "seconds_limit = 60")
    )
    config = load_site_config(write(tmp_path, text))
    assert isinstance(open_launchers(config, RealFileSystem(tmp_path), "site-1")["reference"], SlurmLauncher)


def test_a_job_under_slurm_needs_a_wall_time(tmp_path: Path) -> None:
    text = text_of().replace('launcher = "local"', 'launcher = "slurm"')
    with pytest.raises(ConfigError, match=r"job\.seconds_limit: expected the wall time of one job, .* found 0"):
        load_site_config(write(tmp_path, text))
