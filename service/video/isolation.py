"""Isolation of decoder processes from the machine around them, in layers that hold independently of each other.

namespaces     an empty file system, no network, no other process that it may look into
capabilities   no rights of the superuser, and no way to gain any
landlock       no file but the video, no TCP, no signals to others
seccomp        no system call that decoding does not need: none that starts a process or opens a socket

The fork server enters the namespaces once. Each decoder then puts the other layers around itself, before it touches its
video. A kernel or a container may refuse a layer; the others still hold, and `Isolation.gaps` says what is missing.

The libraries landlockpy and pyseccomp know the versions of Landlock and the numbers of system calls. What neither of
them does, a handful of calls, goes to the C library.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from service.video.wire import VIDEO_FILE

_libc = ctypes.CDLL(None, use_errno=True)
_VIDEO = f"/proc/self/fd/{VIDEO_FILE}"
_ROOT = "/tmp"  # any folder does: the empty file system is mounted over it, for decoders alone
_CLONE_THREAD = 0x00010000
_CLONE_NEWUSER = 0x10000000
_NAMESPACES = 0x00020000 | 0x08000000 | 0x40000000  # CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWNET
_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_PR_SET_NAME, _PR_SET_NO_NEW_PRIVS = 15, 38
_CAPABILITY_VERSION = 0x20080522
# A service that runs as root may be given a video that only these open: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
_KEPT_CAPABILITIES = 1 << 1 | 1 << 2

# Other calls fail with ENOSYS, which libraries take for an older kernel and do without.
_ALLOWED_CALLS = (
    # memory
    *("brk", "madvise", "mmap", "mprotect", "mremap", "munmap"),
    # open files
    *("close", "dup", "fstat", "lseek", "_llseek", "newfstatat", "pread64", "preadv", "read", "readv", "write"),
    *("writev", "poll", "ppoll"),
    # threads
    *("futex", "get_robust_list", "gettid", "membarrier", "restart_syscall", "rseq", "sched_getaffinity"),
    *("sched_yield", "set_robust_list"),
    # time
    *("clock_getres", "clock_gettime", "clock_nanosleep", "getrusage", "gettimeofday", "nanosleep", "times"),
    # this process
    *("exit", "exit_group", "getegid", "geteuid", "getgid", "getpid", "getrandom", "getuid", "rt_sigaction"),
    *("rt_sigprocmask", "rt_sigreturn", "sigaltstack", "sysinfo", "uname"),
)


class Isolation:
    """The layers that this machine grants to decoders. The fork server makes one, before its first decoder.

    gaps: reason for each layer that is missing.

    Each layer is tried in a process of its own first, so that one that would keep a decoder from its work is left out.
    """

    def __init__(self) -> None:
        layers = {
            "namespaces": _enter_namespaces,
            "capabilities": _drop_capabilities,
            "landlock": _restrict_files,
            "seccomp": _filter_calls,
        }
        _load_libraries()
        reasons = {name: _refusal(layer) for name, layer in layers.items()}
        self.gaps = {name: reason for name, reason in reasons.items() if reason}
        granted = [name for name in layers if name not in self.gaps]
        if "seccomp" in granted:
            _call_filter()  # made once, so that a decoder only loads it
        if "namespaces" in granted:
            _enter_namespaces()
        self._own_layers = [layers[name] for name in granted if name != "namespaces"]

    def confine(self) -> None:
        """Puts the layers around this process, whose file VIDEO_FILE is the only one that it can open from now on.

        Raises OSError where a layer fails that has been tried: the process should then end.
        """
        for layer in self._own_layers:
            layer()


def _load_libraries() -> None:
    """Has the libraries look for C's once, here, while files are in reach: they start a process for it, `ldconfig`."""
    with contextlib.suppress(ImportError, OSError):
        importlib.import_module("landlockpy").abi_version()
    with contextlib.suppress(ImportError, RuntimeError):
        importlib.import_module("pyseccomp")


def _refusal(layer: Callable[[], None]) -> str:
    """Returns why a process cannot work within the layer, or nothing where it can."""
    answer, answer_end = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.write(answer_end, _try(layer).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(answer_end)
    with open(answer, encoding="utf-8") as file:
        reason = file.read()
    _, status = os.waitpid(process, 0)
    return reason or ("" if status == 0 else f"a process within it ends with {os.waitstatus_to_exitcode(status)}")


def _try(layer: Callable[[], None]) -> str:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, VIDEO_FILE)
    try:
        layer()
        os.close(os.open(_VIDEO, os.O_RDONLY))
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    except Exception as error:  # whatever it is, decoders do without the layer
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ""


def _enter_namespaces() -> None:
    """Moves this process, which has one thread, into namespaces with no network and no files but those of /proc.

    Only root may do so as it is. Others need a user namespace, in which they are themselves and nobody else.
    """
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_NAMESPACES):
        _succeed(_libc.unshare(_NAMESPACES | _CLONE_NEWUSER), "unshare")
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="utf-8") as file:
                file.write(text)
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount("none", _ROOT, "tmpfs", _MS_NOSUID_NODEV_NOEXEC)
    os.mkdir(f"{_ROOT}/proc")
    _mount("/proc", f"{_ROOT}/proc", None, _MS_BIND | _MS_REC)
    os.chroot(_ROOT)  # whoever has no capabilities does not get out of it
    os.chdir("/")


def _drop_capabilities() -> None:
    _succeed(_libc.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))), "prctl")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    # Effective, permitted and inheritable capabilities from 0 to 31, then those from 32.
    sets = (ctypes.c_uint32 * 6)()
    _succeed(_libc.capget(header, sets), "capget")
    kept = sets[1] & _KEPT_CAPABILITIES
    _succeed(_libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept)), "capset")


def _restrict_files() -> None:
    from landlockpy import AccessFS, Ruleset, Scope

    with Ruleset(scoped=Scope.ABSTRACT_UNIX_SOCKET | Scope.SIGNAL) as ruleset:
        try:
            ruleset.allow_path(_VIDEO, AccessFS.READ_FILE)
        except OSError as error:
            if error.errno != errno.EBADFD:  # the video is on no file system, and Landlock leaves such files alone
                raise
        ruleset.restrict()


def _filter_calls() -> None:
    from pyseccomp import ALLOW, EQ, Arg

    calls = _call_filter()
    calls.add_rule(ALLOW, "tgkill", Arg(0, EQ, os.getpid()))  # abort() ends this process with it
    calls.load()


@cache
def _call_filter() -> Any:
    from pyseccomp import ALLOW, EQ, ERRNO, MASKED_EQ, Arg, SyscallFilter

    calls = SyscallFilter(ERRNO(errno.ENOSYS))
    for name in _ALLOWED_CALLS:
        calls.add_rule(ALLOW, name)
    calls.add_rule(ALLOW, "clone", Arg(0, MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD))
    forbidden = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | os.O_DIRECTORY | os.O_PATH
    calls.add_rule(ALLOW, "openat", Arg(2, MASKED_EQ, forbidden, os.O_RDONLY))
    for command in (1, 2, 3, 1030):  # F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
        calls.add_rule(ALLOW, "fcntl", Arg(1, EQ, command))
    calls.add_rule(ALLOW, "prctl", Arg(0, EQ, _PR_SET_NAME))
    calls.add_rule(ALLOW, "prlimit64", Arg(0, EQ, 0), Arg(2, EQ, 0))  # asks for a limit, and sets none
    return calls


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    kind_bytes = kind.encode() if kind else None
    _succeed(_libc.mount(source.encode(), target.encode(), kind_bytes, ctypes.c_ulong(flags), None), "mount")


def _succeed(result: int, call: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
