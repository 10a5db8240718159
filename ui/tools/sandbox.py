"""The process in which a program of the model runs: it takes from itself what the program must not have, then runs it.

    python -I sandbox.py '{"seconds": 20, "memory": 1073741824, …}'

The program is read from stdin. It imports nothing of this project, and needs nothing but Python's own library.
What cannot be taken away here stays: `--probe` in the place of the bounds says what is.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import json
import linecache
import os
import platform
import signal
import struct
import sys
import traceback
from pathlib import Path
from typing import Any

_NEWUSER, _NEWNET, _NEWPID, _NEWIPC = 0x10000000, 0x40000000, 0x20000000, 0x08000000  # linux/sched.h
_SET_DEATH_SIGNAL, _SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 1, 38, 22, 2  # linux/prctl.h
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same number on every processor

_FORBIDDEN = {  # audit's name of the processor; socket, ptrace, setsid, setpgid, io_uring_setup (unistd.h)
    "x86_64": (0xC000003E, (41, 101, 112, 109, 425)),
    "aarch64": (0xC00000B7, (198, 117, 157, 154, 425)),
}
_READ = 1 | 4 | 8  # landlock.h: execute, read a file, read a folder
_FILE_RIGHTS = 1 | 2 | 4 | 1 << 14 | 1 << 15  # those that mean something for what is no folder
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights a version knows; 16 from the fifth on
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_READABLE = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/System", "/Library")


def main() -> None:
    """Confine this process, then run what stdin says."""
    probing = sys.argv[1] == "--probe"
    source = "" if probing else sys.stdin.buffer.read().decode("utf-8")
    bounds = {"seconds": 5, "memory": 1 << 30, "file": 1 << 20, "processes": 8} if probing else json.loads(sys.argv[1])
    held = confine(bounds)
    if probing:
        print(json.dumps(held))
    else:
        run(source)


def confine(bounds: dict[str, int]) -> dict[str, bool]:
    """Take away what can be taken away; whether network, files, processes and resources are held in bounds."""
    linux = sys.platform == "linux"
    apart = linux and _leave_namespaces()
    held = {"processes": apart, "resources": _limit(bounds, apart)}
    held["files"] = linux and _restrict_files(Path.cwd())
    held["network"] = (linux and _forbid_calls()) or apart
    return held


def run(source: str) -> None:
    """Run a program; where its last line is an expression, its value is printed, as at Python's prompt."""
    linecache.cache["main.py"] = (len(source), None, source.splitlines(keepends=True), "main.py")
    names: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        tree = ast.parse(source, "main.py")
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "main.py", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "main.py", "eval"), names)
            if value is not None:
                print(repr(value))
    except SyntaxError as error:
        traceback.print_exception(error.with_traceback(None))
        sys.exit(1)
    except Exception as error:
        below = error.__traceback__.tb_next if error.__traceback__ else None  # without this file's own frame
        traceback.print_exception(error.with_traceback(below))
        sys.exit(1)


def _limit(bounds: dict[str, int], apart: bool) -> bool:
    """Bound processor time, memory, the size of a file, and how many processes there may be."""
    try:
        import resource
    except ImportError:  # Windows
        return False
    processes = bounds["processes"] if apart else 0  # elsewhere all of the person's processes would be counted
    for which, value in (
        (resource.RLIMIT_CPU, bounds["seconds"]),
        (resource.RLIMIT_AS, bounds["memory"]),
        (resource.RLIMIT_FSIZE, bounds["file"]),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(OSError, ValueError):  # macOS knows no bound of memory
            resource.setrlimit(which, (value, value))
    return True


def _leave_namespaces() -> bool:
    """Go on in a network of its own without a device, and among processes of its own, which end with this one."""
    libc, uid = ctypes.CDLL(None), os.getuid()
    if libc.unshare(_NEWUSER | _NEWNET | _NEWPID | _NEWIPC):
        return False
    with contextlib.suppress(OSError):
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
    child = os.fork()
    if child:
        for stream in (0, 1, 2):
            os.close(stream)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)
    _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    return True


def _forbid_calls() -> bool:
    """Refuse the system calls that open sockets, look into other processes, or leave the group that can be ended."""
    found = _FORBIDDEN.get(platform.machine())
    if found is None or sys.maxsize < 1 << 32:
        return False
    processor, numbers = found
    end = len(numbers) + 4  # where it allows; it refuses in the line behind
    # linux/bpf_common.h: load the processor's name, compare it, load the call's number
    lines = [(0x20, 0, 0, 4), (0x15, 0, end - 1, processor), (0x20, 0, 0, 0)]
    lines.append((0x35, end - 3, 0, 0x40000000))  # numbers of x32
    lines += [(0x15, end - at, 0, number) for at, number in enumerate(numbers, 4)]
    lines += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | 13)]  # allow; fail with EACCES
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    program = struct.pack("@HP", len(lines), ctypes.addressof(code))
    return not _prctl(_SET_NO_NEW_PRIVILEGES, 1) and not _prctl(_SET_SECCOMP, _FILTER, program)


def _prctl(*values: int | bytes) -> int:
    padded = [*values, 0, 0, 0, 0][:5]
    whole = (ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value) for value in padded)
    return int(ctypes.CDLL(None).prctl(*whole))


def _restrict_files(folder: Path) -> bool:
    """Let it read Python and the system's libraries, write in its own folder, and open nothing else."""
    call = ctypes.CDLL(None).syscall
    version = call(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = (1 << _RIGHTS.get(version, 16)) - 1
    wanted = struct.pack("=QQQ", rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)  # files; TCP; signals
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = call(_CREATE_RULESET, wanted, ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, *_READABLE}
    places = [(folder, rights), *((Path(one), _READ) for one in prefixes), *((Path(one), 6) for one in _DEVICES)]
    for path, allowed in places:
        with contextlib.suppress(OSError):  # it is not there
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", rights & allowed & (-1 if path.is_dir() else _FILE_RIGHTS), place)
            call(_ADD_RULE, rules, 1, rule, 0)
            os.close(place)
    return not _prctl(_SET_NO_NEW_PRIVILEGES, 1) and not call(_RESTRICT_SELF, rules, 0)


if __name__ == "__main__":
    main()
