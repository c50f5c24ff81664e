# SPDX-License-Identifier: Apache-2.0
"""What squeue's reason words mean: some go away by themselves, others wait for a person."""

import pytest

from federation.leaves import Reason
from site_agent.failures import LAUNCH
from site_agent.launcher.slurm import waiting
from site_agent.launcher.slurm.waiting import hindrance_of

NEW_CODES = {"job-held", "partition-down", "nodes-unavailable"}


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("AssocGrpCPUMinutesLimit", "account-exhausted"),
        ("AssocGrpGRESMinutes", "account-exhausted"),
        ("AssocGrpBillingMinutes", "account-exhausted"),
        ("QOSGrpCPUMinutesLimit", "account-exhausted"),
        ("QOSGrpGRESMinutes", "account-exhausted"),
        ("QOSGrpNodeMinutes", "account-exhausted"),
        ("AssocGrpWallLimit", "account-exhausted"),
        ("PartitionTimeLimit", "wall-time-limit"),
        ("AssocMaxWallDurationPerJobLimit", "wall-time-limit"),
        ("QOSMaxWallDurationPerJobLimit", "wall-time-limit"),
        ("QOSMaxBillingMinutesPerJob", "wall-time-limit"),
        ("AssocMaxCpuMinutesPerJobLimit", "wall-time-limit"),
        ("AssocMaxGRESPerJob", "resources-unavailable"),
        ("QOSMaxNodePerJobLimit", "resources-unavailable"),
        ("QOSMinGRES", "resources-unavailable"),
        ("BadConstraints", "resources-unavailable"),
        ("PartitionNodeLimit", "resources-unavailable"),
        ("InvalidAccount", "unknown-account"),
        ("AccountNotAllowed", "unknown-account"),
        ("InvalidQOS", "unknown-qos"),
        ("JobHeldAdmin", "job-held"),
        ("JobHeldUser", "job-held"),
        ("JobHoldMaxRequeue", "job-held"),
        ("launch failed requeued held", "job-held"),
        ("launch_failed_requeued_held", "job-held"),
        ("(job requeued in held state)", "job-held"),
        ("PartitionDown", "partition-down"),
        ("PartitionInactive", "partition-down"),
        ("ReqNodeNotAvail", "nodes-unavailable"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-2]", "nodes-unavailable"),
    ],
)
def test_what_does_not_go_away(reason: str, code: str) -> None:
    found = hindrance_of(reason)
    assert found is not None
    assert found.code == code


@pytest.mark.parametrize(
    "reason",
    [
        *(
            "",
            "None",
            "Priority",
            "Resources",
            "Dependency",
            "BeginTime",
            "Licenses",
            "Reservation",
            "Prolog",
            "Cleaning",
        ),
        *(
            "AssocGrpCPURunMinutesLimit",
            "QOSGrpGRESRunMinutes",
            "AssocGrpCpuLimit",
            "QOSGrpNodeLimit",
            "QOSGrpJobsLimit",
        ),
        *("QOSMaxJobsPerUserLimit", "QOSMaxCpuPerUserLimit", "QOSMaxGRESPerUser", "AssocMaxJobsLimit"),
        *("ReqNodeNotAvail, Reserved for maintenance", "AReasonOfALaterRelease"),
    ],
)
def test_what_time_alone_mends(reason: str) -> None:
    assert hindrance_of(reason) is None


def test_only_what_nobody_mends_unasked_waits_for_a_person() -> None:
    def needs(reason: str) -> bool:
        found = hindrance_of(reason)
        return found is not None and found.needs_human

    assert needs("AssocGrpCPUMinutesLimit")
    assert needs("JobHeldAdmin")
    assert not needs("PartitionDown")
    assert not needs("ReqNodeNotAvail, UnavailableNodes:n1")


@pytest.mark.parametrize("found", [found for _, found in waiting._TABLE], ids=lambda found: found.code)
def test_each_says_what_is_wrong_and_what_to_do(found: waiting.Hindrance) -> None:
    assert found.code in LAUNCH.keys() | NEW_CODES
    assert found.sentence
    assert not found.sentence.endswith(".")
    assert found.advice.endswith(".")
    assert (found.reason is Reason.BUDGET) is (found.code == "account-exhausted")
