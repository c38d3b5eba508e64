"""Lets this process, and all that it starts, load the stores of Qdrant Edge in half the CPU time: without MADV_POPULATE_READ.

When Edge loads a shard, it gives Linux this hint (madvise(2)) for the files of all indexes: 68 MB of pages also where the
shard is empty, which takes 50 ms, and a test loads one store or more. A filter of system calls (seccomp(2)) answers the
hint with success at once. Each page is then read when it is needed: only durations depend on it.
"""

from __future__ import annotations

import ctypes
import platform
import struct

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_MADV_POPULATE_READ = 22
_MADVISE = {"x86_64": (0xC000003E, 28), "aarch64": (0xC00000B7, 233)}
"""By machine: its AUDIT_ARCH, and the number of madvise."""
_ANSWER_0, _ALLOW = 0x00050000, 0x7FFF0000
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _ARCHITECTURE, _ADVICE = 0, 4, 32
"""Offsets in struct seccomp_data; the third is the low half of the third argument."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def ignore() -> bool:
    """Answer the hint at once from now on. False where the machine or its Linux has no such filter."""
    try:
        architecture, number = _MADVISE[platform.machine()]
        prctl = ctypes.CDLL(None).prctl
    except (KeyError, AttributeError, OSError):
        return False
    conditions = ((_ARCHITECTURE, architecture), (_NUMBER, number), (_ADVICE, _MADV_POPULATE_READ))
    code = b""
    for done, (offset, wanted) in enumerate(conditions):
        to_allow = 2 * (len(conditions) - done) - 1
        code += struct.pack("HBBI", _LOAD, 0, 0, offset)
        code += struct.pack("HBBI", _JUMP_IF_EQUAL, 0, to_allow, wanted)
    code += struct.pack("HBBI", _RETURN, 0, 0, _ANSWER_0) + struct.pack("HBBI", _RETURN, 0, 0, _ALLOW)
    program = _Program(len(code) // 8, code)
    # Linux demands the first one: otherwise a filter could deceive programs with more rights than their caller.
    return not (
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        or prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
    )
