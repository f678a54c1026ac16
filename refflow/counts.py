"""The counts that belong to verdicts: how many were asked, how many are broken, which were skipped and why."""

from __future__ import annotations

MISUSED = "error of use"        # the status where a mistake in the user's file leaves a question unasked
UNASKED = ("skip", MISUSED)
BROKEN = {"FAIL": "broken", "known": "known to be broken", "warned": "broken, too new to fail"}
PLURALS = {"law": "laws", "quantity": "quantities"}


def counts_text(word, verdicts) -> str:
    """"15 laws ran, 1 broken, 2 skipped: monotone, mass is one (the event is not one number)".

    `verdicts`: (name, status, reason) of each; a status is "pass", "FAIL", "skip", "known" for a failure that is expected, or
    "warned" for one of a law that is too new for the user's file, or MISUSED.
    """
    count = {status: sum(found == status for _, found, _ in verdicts) for status in (*UNASKED, *BROKEN)}
    ran = len(verdicts) - sum(count[status] for status in UNASKED)
    parts = [f"{ran} {word if ran == 1 else PLURALS[word]} ran"]
    parts += [f"{count[status]} {said}" for status, said in BROKEN.items() if count[status]]
    parts += [f"{count[MISUSED]} not asked: {MISUSED}"] if count[MISUSED] else []
    parts += [f"{count['skip']} skipped: {skipped_text(verdicts)}"] if count["skip"] else []
    return ", ".join(parts)


def skipped_text(verdicts):
    """The names, grouped by their reasons."""
    reasons = {}
    for name, status, reason in verdicts:
        if status == "skip":
            reasons.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
