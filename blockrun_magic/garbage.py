"""Memory use while many objects are made: fewer objects to collect, and freed memory returned to the system."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["give_back_memory", "no_garbage", "only_new_garbage"]

_lock = threading.Lock()
_inside = [0]


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Limit the garbage collector to objects that are made inside: all threads stop while it runs.

    In a notebook with a million objects, a full collection takes a tenth of a second. If the process has frozen objects
    itself, nothing changes.
    """
    with _lock:
        freezes = bool(_inside[0]) or not gc.get_freeze_count()
        if freezes:
            _inside[0] += 1
            gc.freeze()
    try:
        yield
    finally:
        with _lock:
            if freezes:
                _inside[0] -= 1
                if not _inside[0]:
                    gc.unfreeze()


@contextmanager
def no_garbage() -> Iterator[None]:
    """Turn the collector off while hundreds of thousands of objects are made, none of which is garbage.

    It would examine all of them again and again. A collector that the user turned off stays off.
    """
    ours = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if ours:
            gc.enable()


def give_back_memory() -> bool:
    """Return free memory to the system, where the C library can: tens of megabytes after many images.

    The library's pools for threads would keep it. Return whether any was freed.
    """
    import ctypes

    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # only glibc has it
        return False
    return bool(trim(0))
