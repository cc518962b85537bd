"""A simulated power cut: the writes and syncs of a process, and every possible state of its disk at a power cut.

A process runs under strace. Its writes, syncs, renames and sends are read from the trace and replayed: at each moment,
the disk holds at least the synced data, and at most all written data.

The model is the strict one of POSIX: a file's content survives after `fsync` of the file, its name after `fsync` of
its folder, even if a file system guarantees more.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Disk", "Event", "events_of", "run_traced"]

_CALLS = (
    "openat,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,"
    "mkdir,mkdirat,sendto,sendmsg"
)
_LINE = re.compile(r"(\d+)\s+(.*)", re.DOTALL)
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)(.*)", re.DOTALL)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NAMES = {"openat": "create", "mkdir": "mkdir", "rename": "rename", "link": "link", "unlink": "unlink"}
_FD = re.compile(r"^\d+<(.*?)(?:\(deleted\))?>", re.DOTALL)


@dataclass(frozen=True)
class Event:
    """An action of a process: its kind, its path, and the written data or the other path."""

    kind: str
    path: str
    data: bytes = b""
    offset: int = 0
    other: str = ""


def run_traced(command: Sequence[str], trace: Path, **options: object) -> None:
    """Run `command` and record its use of files and sockets in `trace`; raises CalledProcessError."""
    strace = shutil.which("strace")
    assert strace is not None, "strace is not installed. Run: apt-get install strace"
    flags = ["-f", "-y", "-xx", "-s", "50000000", "-e", f"trace={_CALLS}", "-o", str(trace)]
    subprocess.run([strace, *flags, "--", *command], check=True, timeout=300, **options)  # type: ignore[call-overload]


def events_of(trace: Path, home: Path) -> list[Event]:
    """Return the actions below `home`, in order; "send" means bytes that left through a socket."""
    events: list[Event] = []
    unfinished: dict[str, str] = {}
    for line in trace.read_text("latin-1").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        pid, text = match.groups()
        if text.endswith("<unfinished ...>"):
            unfinished[pid] = text.removesuffix("<unfinished ...>").rstrip()
            continue
        if text.startswith("<... "):
            text = unfinished.pop(pid, "") + text.partition(" resumed>")[2]
        call = _CALL.match(text)
        if call is not None and not call[3].startswith("-"):
            events += _events(call[1], call[2], int(call[3]), str(home))
    return events


def _events(name: str, arguments: str, result: int, home: str) -> Iterator[Event]:
    raw = _STRING.findall(arguments)
    if name in ("sendto", "sendmsg"):
        yield Event("send", "", b"".join(_bytes(text) for text in raw))
    elif name in ("write", "pwrite64", "ftruncate", "fsync", "fdatasync"):
        descriptor = _FD.match(arguments)
        path = _text(descriptor[1]) if descriptor else ""
        if path.startswith(home):
            yield _change_of(name, path, arguments, raw, result)
    else:
        names = [_text(text) for text in raw]
        if names and names[-1].startswith(home) and (name != "openat" or "O_CREAT" in arguments):
            kind = next(kind for call, kind in _NAMES.items() if name.startswith(call))
            yield Event(kind, names[-2] if kind in ("rename", "link") else names[-1], other=names[-1])


def _change_of(name: str, path: str, arguments: str, raw: list[str], result: int) -> Event:
    if name == "write":
        return Event("append", path, _bytes(raw[-1])[:result])
    if name == "pwrite64":
        return Event("write", path, _bytes(raw[-1])[:result], int(arguments.rpartition(",")[2]))
    if name == "ftruncate":
        return Event("truncate", path, offset=int(arguments.rpartition(",")[2]))
    return Event("sync", path)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(text: str) -> str:
    return _bytes(text).decode() if text.startswith("\\x") else text


@dataclass
class _File:
    """A file's content: `lasting` is the synced content, `pending` has the later writes."""

    lasting: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)
    end: int = 0

    def content(self, writes: Sequence[Event]) -> bytes:
        data = bytearray(self.lasting)
        for write in writes:
            _apply(data, write)
        return bytes(data)


def _apply(data: bytearray, write: Event) -> None:
    if write.kind == "truncate":
        del data[write.offset :]
        data.extend(bytes(write.offset - len(data)))
    else:
        data.extend(bytes(max(0, write.offset - len(data))))
        data[write.offset : write.offset + len(write.data)] = write.data


class Disk:
    """A disk during a run: its current names and files, and the names that would survive a power cut."""

    def __init__(self, home: Path) -> None:
        self._home = str(home)
        self._names: dict[str, _File | None] = {self._home: None}
        self._lasting: dict[str, _File | None] = {self._home: None}

    def happen(self, event: Event) -> None:
        """Apply one action of the process."""
        names = self._names
        if event.kind == "create":
            names.setdefault(event.path, _File())
        elif event.kind == "mkdir":
            names.setdefault(event.path, None)
        elif event.kind == "sync":
            self._sync(event.path)
        elif event.kind in ("rename", "link"):
            names[event.other] = names[event.path]
            if event.kind == "rename":
                del names[event.path]
        elif event.kind == "unlink":
            names.pop(event.path, None)
        elif event.kind != "send":
            self._write(event)

    def _write(self, event: Event) -> None:
        file = self._names.get(event.path)
        if file is None:
            return
        if event.kind == "append":
            event = Event("write", event.path, event.data, file.end)
        file.pending.append(event)
        file.end = event.offset if event.kind == "truncate" else max(file.end, event.offset + len(event.data))

    def _sync(self, path: str) -> None:
        file = self._names.get(path)
        if file is not None:
            file.lasting = bytearray(file.content(file.pending))
            file.pending.clear()
            return
        here = {name for name in self._names.keys() | self._lasting.keys() if name.rpartition("/")[0] == path}
        for name in here:
            if name in self._names:
                self._lasting[name] = self._names[name]
            else:
                del self._lasting[name]

    def after_a_cut(self, folder: Path, luck: random.Random | None = None) -> None:
        """Write the surviving files into `folder`: all synced data, and other data as `luck` decides."""
        names = dict(self._lasting)
        if luck is not None:
            for name in self._names.keys() ^ self._lasting.keys():
                if luck.random() < 0.5:
                    names = {k: v for k, v in names.items() if k != name} if name in names else {
                        **names, name: self._names[name]
                    }  # fmt: skip
        self._restore(folder, names, luck)

    def after_a_kill(self, folder: Path) -> None:
        """Write into `folder` everything that was written: a killed process leaves this."""
        self._restore(folder, self._names, None, everything=True)

    def _restore(
        self, folder: Path, names: dict[str, _File | None], luck: random.Random | None, *, everything: bool = False
    ) -> None:
        reachable = {self._home}
        for name in sorted(names):
            if name.rpartition("/")[0] not in reachable and name != self._home:
                continue  # the name of its folder was lost
            path = folder / name.removeprefix(self._home).lstrip("/")
            file = names[name]
            if file is None:
                path.mkdir(mode=0o700, exist_ok=True)
                reachable.add(name)
            else:
                pending = file.pending if everything else [w for w in file.pending if luck and luck.random() < 0.5]
                path.write_bytes(file.content(pending))
                path.chmod(0o600)
