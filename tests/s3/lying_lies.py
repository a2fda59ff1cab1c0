"""What a store that lies does wrong, and when."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.s3.lying_wire import Ask

BODIES = frozenset({"put", "part"})
WRITES = BODIES | {"complete"}
EVERY = WRITES | {
    *("create", "abort", "delete", "deletes", "head", "get"),
    *("parts", "uploads", "list", "bucket"),
}

#: What it can do wrong, and with which operations.
KINDS: dict[str, frozenset[str]] = {
    # one byte in the middle of a body is changed, and nothing is left that would give it away
    "flip": BODIES,
    # a body loses its last eighth, and its length is made to fit
    "truncate": BODIES,
    # a part is answered as it should be, and not kept; the upload is completed without it
    "lose_part": frozenset({"part"}),
    # an object is answered as it should be, and not kept
    "lose_object": frozenset({"put", "complete"}),
    # the status is 200, and the body an <Error>; nothing is done
    "ok_error": WRITES,
    # HEAD, GET and LIST tell of the object that was there before; `times` answers after each write
    "stale": frozenset({"head", "get", "list"}),
    # it is done at once, and the answer drips within `seconds`
    "slow": EVERY,
    # `status` and `code`; nothing is done
    "fail": EVERY,
    # the connection ends in the middle of the body (of the request, or of a GET's answer)
    "cut_body": BODIES | {"get"},
    # the connection ends, and nothing is done
    "cut_before": EVERY,
    # it is done, and then the connection ends: a lost answer
    "cut_after": EVERY,
    # like flip, but ETag and checksum are those of the right bytes, also in HEAD and LIST
    "echo": BODIES,
    # like truncate, but ETag and checksum are those of the right bytes, also in HEAD and LIST
    "echo_short": BODIES,
    # 403 AccessDenied
    "deny": EVERY,
    # 507: the disk behind it is full
    "full": WRITES | {"create"},
    # 403 QuotaExceeded, as Ceph has it
    "quota": WRITES | {"create"},
}
STATUS = {
    "fail": (503, "SlowDown"),
    "deny": (403, "AccessDenied"),
    "full": (507, "XMinioStorageFull"),
    "quota": (403, "QuotaExceeded"),
    "ok_error": (200, "InternalError"),
}
_OF_BYTES = {"flip", "truncate", "echo", "echo_short", "cut_body"}


@dataclass
class Lie:
    """One thing that it does wrong, and how often it has.

    It is told of keys that match the glob ``keys`` (of a LIST: its prefix; ``*`` stands for slashes
    too), in these ``operations``, after so many that went right, and so many ``times`` (None: for
    ever; of ``stale``: after each write).
    """

    kind: str
    keys: str
    times: int | None
    after: int
    operations: Collection[str]
    seconds: float
    status: int
    code: str
    told: int = 0
    passed: int = 0

    def fits(self, ask: Ask) -> bool:
        """Is it about such a request?"""
        return ask.operation in self.operations and fnmatchcase(ask.key, self.keys)

    def takes(self, ask: Ask, size: int) -> bool:
        """Is it told now, to this request with a body of so many bytes? Counts."""
        if not self.fits(ask) or (self.times is not None and self.told >= self.times):
            return False
        if size == 0 and ask.operation in BODIES and self.kind in _OF_BYTES:
            return False  # there is nothing to do it to
        self.passed += 1
        if self.passed <= self.after:
            return False
        self.told += 1
        return True
