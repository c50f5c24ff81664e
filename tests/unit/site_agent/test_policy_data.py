# SPDX-License-Identifier: Apache-2.0
"""A job is given the data sets that the policy allows for its run, and no other: from the answer to the work order."""

from dataclasses import replace
from pathlib import Path

import pytest
from agent_situations import MANIFEST, RUN, Situation

from federation.blobs.store import BlobStore
from federation.durable.real import RealFileSystem
from site_agent import layout
from site_agent.data_sets import DataFormat, DataSet
from site_agent.instructions import Submission, SubmitAllocation
from site_agent.jobs import WorkOrder, read_record
from site_agent.orders import JobSettings, OrderDesk

SETS = tuple(
    DataSet(name=name, path=f"/data/{name}", format=DataFormat.TEXT, language=language)
    for name, language in (("hplt", "fi"), ("secret", "sv"), ("wikipedia", "fi"))
)


def order_of(directory: Path, settings: JobSettings, *names: str) -> WorkOrder:
    """What a job is given whose policy allows these names."""
    fs = RealFileSystem(directory)
    blobs = BlobStore(fs, layout.BLOBS)
    manifest = blobs.put(b"a manifest")
    desk = OrderDesk(fs, fs.root, blobs, "alpha", settings)
    instruction = SubmitAllocation(
        run=RUN,
        number=1,
        fencing=1,
        theta_blob="11" * 32,
        manifest_digest=manifest,
        otherwise=Submission.START,
        data_sets=names,
    )
    desk.work(instruction, "reference")
    order = read_record(fs, layout.allocation_paths(RUN, 1).order, WorkOrder)
    assert order is not None
    return order


@pytest.mark.parametrize(
    ("names", "languages"),
    [(("hplt", "wikipedia"), ("fi",)), (("hplt", "secret"), ("fi", "sv")), (("secret",), ("sv",))],
)
def test_a_work_order_holds_only_what_is_allowed(
    tmp_path: Path, names: tuple[str, ...], languages: tuple[str, ...]
) -> None:
    order = order_of(tmp_path, JobSettings(data_dir="", languages=("fi", "sv"), data_sets=SETS), *names)
    assert tuple(found.name for found in order.data_sets) == names
    assert order.languages == languages


def test_a_site_that_names_none_gives_its_directory(tmp_path: Path) -> None:
    order = order_of(tmp_path, JobSettings(data_dir="/data", languages=("de", "fr")))
    assert (order.data_dir, order.languages, order.data_sets) == ("/data", ("de", "fr"), ())


def test_the_answer_to_the_manifest_decides_what_the_submission_names() -> None:
    situation = Situation().started()
    seen = replace(situation.seen.manifests[RUN], data_sets=("hplt",))
    situation.see(manifests={RUN: seen})
    situation.settle()
    situation.job(attempted=False)
    (submission,) = (found for found in situation.pending() if isinstance(found, SubmitAllocation))
    assert (submission.manifest_digest, submission.data_sets) == (MANIFEST, ("hplt",))
