# SPDX-License-Identifier: Apache-2.0
"""The fake sacctmgr: shows associations, and nothing else."""

from fake_slurm.outcome import Outcome
from fake_slurm.store import Cluster, Store


def sacctmgr(_store: Store, cluster: Cluster, arguments: list[str]) -> Outcome:
    """`show assoc user=NAME [account=NAMES] format=FIELDS`: the user has every account, with every QOS."""
    words = [word for word in arguments if not word.startswith("-")]
    keywords = dict(word.split("=", 1) for word in words if "=" in word)
    if words[:2] != ["show", "assoc"] or "format" not in keywords:
        return Outcome(status=1, error=f" Unknown entity: {' '.join(words)}\n")
    columns = keywords["format"].lower().split(",")
    values = {"partition": "", "qos": ",".join(cluster.qos), "user": keywords.get("user", "")}
    wanted = keywords["account"].split(",") if "account" in keywords else cluster.accounts
    rows = [{**values, "account": account} for account in cluster.accounts if account in wanted]
    return Outcome(output="".join("|".join(row[column] for column in columns) + "\n" for row in rows))
