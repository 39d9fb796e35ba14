"""Run a command to which Linux lends no tile registers, as on a CPU without AMX.

    python benchmarks/without_tiles.py python benchmarks/runtimes.py --network resnet18

A filter of system calls answers "not permitted" to arch_prctl(ARCH_REQ_XCOMP_PERM), in the command
and in all that it starts. Libraries that would use AMX, OpenVINO and onnxruntime among them, then
take what they take on a CPU that has only AVX-512 (VNNI, VBMI, VPOPCNTDQ as the machine has them),
and so does the target `host`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import struct
import sys
from collections.abc import Sequence

from mpqdeploy.core import TargetError, UserError
from mpqdeploy.targets.permission import ARCH_PRCTL, REQUEST
from mpqdeploy.ui import Ui

NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2  # prctl(2)
X86_64 = 0xC000003E  # AUDIT_ARCH_X86_64
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # instructions of classic BPF
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
ALLOWED, NOT_PERMITTED = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO, EPERM

# Code, steps to skip if equal, steps to skip if not, operand.
INSTRUCTIONS = (
    (LOAD, 0, 0, ARCHITECTURE),
    (JUMP_IF_EQUAL, 0, 5, X86_64),
    (LOAD, 0, 0, NUMBER),
    (JUMP_IF_EQUAL, 0, 3, ARCH_PRCTL),
    (LOAD, 0, 0, FIRST_ARGUMENT),
    (JUMP_IF_EQUAL, 0, 1, REQUEST),
    (RETURN, 0, 0, NOT_PERMITTED),
    (RETURN, 0, 0, ALLOWED),
)


class Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse_tiles() -> None:
    """For this process, for good, and for those that it starts. Raises `TargetError` where the
    system has no such filters."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in INSTRUCTIONS)
    memory = ctypes.create_string_buffer(code)
    program = Program(len(INSTRUCTIONS), ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    refused = libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) != 0
    if refused or libc.prctl(SET_SECCOMP, FILTER, ctypes.byref(program)) != 0:
        raise TargetError(
            f"Linux took no filter of system calls: {os.strerror(ctypes.get_errno())}.",
            hint="measure on a CPU without AMX instead",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="with its arguments")
    command = parser.parse_args(arguments).command
    if not command:
        parser.error("no command is given")
    try:
        refuse_tiles()
        os.execvp(command[0], command)
    except UserError as error:
        Ui().warn(str(error))
    except OSError as error:
        Ui().warn(f"{command[0]} could not be run: {error.strerror}")
    return 2


if __name__ == "__main__":
    sys.exit(main())
