"""inject: system calls made by another process, as if somebody had taken it over. For x86_64, and root.

    with inject.Stopped(pid) as taken:
        fd = taken.open_at(5, "/etc/passwd", os.O_RDONLY)   # a negative errno, or what it returned

The process is stopped, its registers are kept, a `syscall` instruction of its own code is run once for each call, and
it goes on as if nothing had been.
"""

import ctypes
import errno
import os
import signal

EACCES = errno.EACCES
CLOSE, OPENAT = 3, 257
STORE_FD = 4  # daemon/child/worker.h, WORKER_FD_STORE
LANDLOCK_CREATE_RULESET = 444

_SEIZE, _INTERRUPT, _CONT_STEP, _GETREGS, _SETREGS, _DETACH = 0x4206, 0x4207, 9, 12, 13, 17
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class _Regs(ctypes.Structure):
    """struct user_regs_struct"""
    _fields_ = [(name, ctypes.c_ulonglong) for name in
                ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base "
                 "gs_base ds es fs gs").split()]


def landlock_version():
    """Which version of Landlock the kernel has; 0 or less: none."""
    return _libc.syscall(LANDLOCK_CREATE_RULESET, 0, 0, 1)


def _ptrace(request, pid, address=0, data=0):
    if _libc.ptrace(request, pid, address, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Stopped:
    """The main thread of a process, stopped for as long as the block lasts."""

    def __init__(self, pid):
        self.pid = pid
        self.was = _Regs()
        self.at = self.mem = None

    def _regs(self, request, regs):
        _ptrace(request, self.pid, 0, ctypes.addressof(regs))

    def __enter__(self):
        _ptrace(_SEIZE, self.pid)
        try:
            _ptrace(_INTERRUPT, self.pid)
            self._wait()
            self._regs(_GETREGS, self.was)
            self.mem = open(f"/proc/{self.pid}/mem", "r+b", buffering=0)
            self.at = self._instruction()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_):
        try:
            self._regs(_SETREGS, self.was)
        finally:
            self._end()

    def _end(self):
        if self.mem:
            self.mem.close()
        try:
            _ptrace(_DETACH, self.pid)
        except ProcessLookupError:
            pass

    def _wait(self):
        _, status = os.waitpid(self.pid, 0x40000000)  # __WALL
        if not os.WIFSTOPPED(status):
            raise ProcessLookupError(errno.ESRCH, f"process {self.pid} has ended ({status})")
        return os.WSTOPSIG(status)

    def _instruction(self):
        """Where in its code a `syscall` is."""
        with open(f"/proc/{self.pid}/maps", encoding="ascii") as f:
            for line in f:
                place, rights = line.split()[:2]
                if "x" not in rights or "[" in line:
                    continue
                low, high = (int(end, 16) for end in place.split("-"))
                self.mem.seek(low)
                found = self.mem.read(high - low).find(b"\x0f\x05")
                if found >= 0:
                    return low + found
        raise AssertionError("no syscall instruction in its code")

    def call(self, number, *args):
        """Makes it call the kernel; what that returns."""
        regs = _Regs.from_buffer_copy(self.was)
        regs.rip, regs.rax = self.at, number
        regs.orig_rax = 2**64 - 1  # no call is to be made again
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), args):
            setattr(regs, name, value & (2**64 - 1))
        self._regs(_SETREGS, regs)
        _ptrace(_CONT_STEP, self.pid)
        stop = self._wait()
        if stop != signal.SIGTRAP:
            raise AssertionError(f"stopped by signal {stop}, not by the step")
        self._regs(_GETREGS, regs)
        return ctypes.c_longlong(regs.rax).value

    def open_at(self, fd, path, flags, mode=0o600):
        """openat; the path is put below its stack."""
        text = path.encode() + b"\0"
        place = (self.was.rsp - 4096 - len(text)) & ~15
        self.mem.seek(place)
        kept = self.mem.read(len(text))
        self.mem.seek(place)
        self.mem.write(text)
        result = self.call(OPENAT, fd, place, flags, mode)
        self.mem.seek(place)
        self.mem.write(kept)
        return result
