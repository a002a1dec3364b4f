"""Which log lines must reach the judge even when a flood of lines forces others to be dropped."""

from __future__ import annotations


def is_important(text: str) -> bool:
    """True for every line that can change a verdict, and for some others.

    Every line of a flood is asked about, so this is a handful of words that the table of patterns has in common; a test
    holds it against each pattern's example and each line of the real logs.
    """
    return (
        "rror" in text
        or "ERR" in text
        or "GiB" in text
        or " took " in text
        or "ngine" in text
        or "CRITICAL" in text
        or "Exception" in text
        or "apturing" in text
        or "tokens" in text
        or "odel" in text
        or "Compl" in text
        or "compl" in text
        or "hut" in text
        or "illed" in text
        or "died" in text
        or "version" in text
        or "failed" in text
        or "Segfault" in text
        or "Watchdog" in text
        or "non-default args" in text
        or "world_size" in text
        or "block" in text
        or "architecture" in text
        or "fatal" in text
        or "annot" in text
        or "not found" in text
        or "ost" in text
        or "ndefined" in text
        or "NCCL" in text
        or "Xid" in text
        or "Traceback" in text
        or "  File " in text
        or "xited" in text
        or "fault" in text
        or "start a new" in text
        or "bort" in text
        or "esource" in text
        or "[type=" in text
        or "orrupt" in text
        or "): " in text
        or "irtual" in text
        or "terminate" in text
        or "stack smashing" in text
        or "dead" in text
        or "imed out" in text
        or "offload" in text.lower()
    )
