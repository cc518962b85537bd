"""A real ipykernel for tests: they run cells and read the outputs that a notebook shows."""

from __future__ import annotations

import os
import queue
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

from harness import PATIENCE

__all__ = ["Cell", "Kernel", "clean_environ", "made", "paid_to", "running_kernel"]


def clean_environ(home: Path, **more: str) -> dict[str, str]:
    """Return an environment with the home `home`, and without a wallet or gateway of the machine's owner."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BLOCKRUN_", "BASE_CHAIN_", "JUPYTER_", "IPYTHON", "COV_CORE_"))
    }
    return kept | {"HOME": str(home), "BLOCKRUN_HOME": str(home / ".blockrun"), "TERM": "dumb"} | more


def paid_to(url: str) -> int:
    """Return the sum of all payments to the practice gateway at `url`, in micro-dollars."""
    return int(httpx.get(f"{url}/practice/ledger", timeout=PATIENCE).json()["total"])


@dataclass
class Cell:
    """A cell that was run: its status ("ok", "error", "aborted"), its messages and its outputs."""

    status: str = ""
    count: int | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    """The final outputs in the notebook, after all updates."""

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Return the contents of every message of one type, in order."""
        return [message["content"] for message in self.messages if message["msg_type"] == kind]

    @property
    def pictures(self) -> list[dict[str, Any]]:
        """The outputs that show images: one image or a grid."""
        return [
            output
            for output in self.outputs
            if any(kind.startswith("image/") for kind in output["data"])
            or "<img " in output["data"].get("text/html", "")
        ]

    @property
    def html(self) -> str:
        """All HTML outputs, joined by line breaks."""
        return "\n".join(output["data"].get("text/html", "") for output in self.outputs)

    @property
    def text(self) -> str:
        """All printed text, and the plain text of every output."""
        printed = "".join(content["text"] for content in self.of_type("stream"))
        return printed + "\n".join(output["data"].get("text/plain", "") for output in self.outputs)

    @property
    def error(self) -> list[str]:
        """The lines of the traceback; empty if the cell succeeded."""
        return [line for content in self.of_type("error") for line in content["traceback"]]

    @property
    def error_name(self) -> str:
        """The class name of the exception that ended the cell, or ""."""
        return next((content["ename"] for content in self.of_type("error")), "")


class Kernel:
    """One running kernel and the client that talks to it."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self._manager = manager
        self._client = client
        self._cells: dict[str, Cell] = {}
        self._places: dict[str, dict[str, Any]] = {}
        self._replies: dict[str, str] = {}
        self._aborting = False

    def run(self, code: str) -> Cell:
        """Run `code` to its end and return the cell."""
        return self.finish(self.start(code))

    def start(self, code: str) -> str:
        """Send a cell like a click on Run, without waiting for it; return its id."""
        if self._aborting:
            self._wait_until_it_takes_cells()
        cell_id: str = self._client.execute(code, store_history=True, stop_on_error=True)
        self._cells[cell_id] = Cell()
        return cell_id

    def type(self, text: str) -> dict[str, Any]:
        """Type `text` as the answer to a running cell's question, and return the question."""
        question: dict[str, Any] = self._client.get_stdin_msg(timeout=PATIENCE)["content"]
        self._client.input(text)
        return question

    def finish(self, cell_id: str) -> Cell:
        """Wait until a cell has ended with all its outputs, and return it."""
        return self.wait_for(cell_id, lambda cell: bool(cell.status))

    def wait_for(self, cell_id: str, condition: Callable[[Cell], bool]) -> Cell:
        """Return a started cell as soon as it meets `condition`."""
        cell = self._cells[cell_id]
        until = time.monotonic() + PATIENCE
        while not condition(cell):
            try:
                self._take(self._client.get_iopub_msg(timeout=0.2))
            except queue.Empty:
                if time.monotonic() > until:
                    raise AssertionError(f"the kernel is silent: {cell}") from None
        return cell

    def value(self, expression: str) -> str:
        """Return the repr of an expression in the kernel's namespace."""
        reply = self._client.execute(
            "", user_expressions={"value": expression}, store_history=False, reply=True, timeout=PATIENCE
        )
        answer = reply["content"]["user_expressions"]["value"]
        return str(answer["data"]["text/plain"] if answer["status"] == "ok" else answer["evalue"])

    def wait_until(self, expression: str) -> None:
        """Wait until an expression in the kernel's namespace is true."""
        until = time.monotonic() + PATIENCE
        while self.value(f"bool({expression})") != "True":
            assert time.monotonic() < until, expression
            time.sleep(0.1)

    def interrupt(self) -> None:
        """Press Stop."""
        self._manager.interrupt_kernel()

    def kill(self) -> None:
        """End the process at once, like a failing machine."""
        self._manager.shutdown_kernel(now=True)

    def click(self, model_id: str) -> None:
        """Click a button widget, like the page."""
        press = {"comm_id": model_id, "data": {"method": "custom", "content": {"event": "click"}}}
        self._client.shell_channel.send(self._client.session.msg("comm_msg", press))

    def _take(self, message: dict[str, Any]) -> None:
        parent = message["parent_header"].get("msg_id")
        cell = self._cells.get(parent)
        if cell is None:
            return
        cell.messages.append(message)
        content, kind = message["content"], message["msg_type"]
        if kind in {"display_data", "execute_result"}:
            cell.outputs.append(dict(content))
            name = content.get("transient", {}).get("display_id")
            if name:
                self._places[name] = cell.outputs[-1]
        elif kind == "update_display_data":
            place = self._places[content["transient"]["display_id"]]
            place["data"], place["metadata"] = content["data"], content["metadata"]
        elif kind == "execute_input":
            cell.count = content["execution_count"]
        elif kind == "status" and content["execution_state"] == "idle":
            cell.status = self._reply(parent)
            self._aborting |= cell.status == "error"

    def _wait_until_it_takes_cells(self) -> None:
        """Wait until cells run again: after an error, ipykernel refuses all cells for a moment."""
        until = time.monotonic() + PATIENCE
        while "ok" != self._reply(self._client.execute("", silent=True)):
            assert time.monotonic() < until, "the kernel refuses every cell"
        self._aborting = False

    def _reply(self, cell_id: str) -> str:
        while cell_id not in self._replies:
            reply = self._client.get_shell_msg(timeout=PATIENCE)
            self._replies[reply["parent_header"].get("msg_id")] = str(reply["content"]["status"])
        return self._replies.pop(cell_id)


@contextmanager
def running_kernel(home: Path, environ: Mapping[str, str] | None = None) -> Iterator[Kernel]:
    """Yield a kernel that works in `home` and sees no settings of the machine's owner; `environ` is added."""
    # Sockets in a short directory: no races for ports, and paths below the length limit of sockets.
    with tempfile.TemporaryDirectory(prefix="k") as sockets:
        manager = KernelManager(transport="ipc", connection_file=str(Path(sockets) / "kernel.json"))
        manager.start_kernel(env=clean_environ(home, **(environ or {})), cwd=str(home))
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=PATIENCE)
            yield Kernel(manager, client)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()


def made(kernel: Kernel, code: str) -> Cell:
    """Return an ended cell; fails if the cell had an error."""
    cell = kernel.run(code)

    assert "ok" == cell.status, cell.error
    return cell
