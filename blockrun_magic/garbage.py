"""Memory while many images are made: the garbage collector looks at little, and what was freed is given back."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["give_back_memory", "only_new_garbage"]

_lock = threading.Lock()
_inside = [0]


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Let the collector look only at objects that are made inside: all threads stand still while it looks.

    In a notebook with a million objects that takes a tenth of a second each time. Nothing changes where the process
    has frozen objects itself.
    """
    with _lock:
        ours = bool(_inside[0]) or not gc.get_freeze_count()
        if ours:
            _inside[0] += 1
            gc.freeze()
    try:
        yield
    finally:
        with _lock:
            if ours:
                _inside[0] -= 1
                if not _inside[0]:
                    gc.unfreeze()


def give_back_memory() -> bool:
    """Give memory that is free back to the system, where the C library can: tens of megabytes after many images.

    Its pools of threads would keep it. Return whether there was any.
    """
    import ctypes

    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # only glibc has it
        return False
    return bool(trim(0))
