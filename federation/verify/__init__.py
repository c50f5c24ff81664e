# SPDX-License-Identifier: Apache-2.0
"""The audit of a coordinator's directory: is everything that its ledger says borne out by its evidence?

Nothing in the directory is believed, and nothing in it is changed; no private key is needed. What comes from outside
(the fingerprint of the consortium's root, checkpoints that agents kept) anchors the rest. A coordinator may be
appending meanwhile: cosigned notes are read first, then the checkpoint, then the leaves below it.

 1. rosters           the root has the fingerprint given; every version is signed, follows the one before, and was
                      installed in its time; files, blobs and leaves agree (`trust`)
 2. ledger            every leaf under the checkpoint is there and intact; the tree has the checkpoint's root
                      (`log_files`, `signatures`)
 3. checkpoint        signed with the ledger key of the roster in force (`signatures`)
 4. kept checkpoints  each was signed by this ledger and is a prefix of it: an older copy, a cut tail, a directory
                      signed anew with other keys show here (`signatures`)
 5. cosignatures      each stored one verifies under a roster's witness key and is of this tree (`signatures`)
 6. leaves            of types that this release knows, each fits the fold of those before it (`history`)
 7. runs              manifests obey every rule, plans and answers agree with them (`runs`)
 8. commands          by operators of the roster in force, each once (`runs`). Their signed envelopes are not kept:
                      that an operator gave a command is the coordinator's word
 9. blobs             every blob that the ledger names is there and has its digest (`evidence`)
10. openings          base = head, number, lr_position, room; the invited are members that accepted and are neither
                      drained nor revoked, a quorum with its sentence (`openings`)
11. signed updates    signed under the roster's key of the site, and the verdict repeats them (`verdicts`)
12. verdicts          admission's checks on the state as it was then give the same outcome, reason and norm;
                      equivocation has two signed updates; bounds of absences can have passed; nothing of a revoked site
                      was taken (`verdicts`)
13. ends              seals are all the admitted with the weights of their signed tokens, quorum with its sentence;
                      abandonments, pauses, rollbacks, completions follow from the leaves before (`ends`, `runs`)
14. commits           every committed round, reverted ones too, computed again from the signed updates to the same
                      bits: theta, m, r, blob, norms and cosines (`recomputation`)
15. evaluations       signed by the site, of a model that was current once (`runs`, `tasks`)
16. witness rule      bases that were used are covered by enough stored cosignatures (`openings`)
17. stored state      versions in state/ have the recomputed digests (`stored_state`)

Only the coordinator's word, since no signed message of it is kept: operators' commands, sites' answers to manifests,
that a site declined, and which bound passed first for one that missed.
What no directory can show: what never reached the coordinator or its ledger. Sites keep what they signed.
"""

from federation.verify.report import Anchors, Check, Difference, Findings, Gap, Report, Verdict
from federation.verify.verifier import verify_directory

__all__ = ["Anchors", "Check", "Difference", "Findings", "Gap", "Report", "Verdict", "verify_directory"]
