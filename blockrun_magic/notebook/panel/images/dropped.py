"""Dropped image files: their receipts, or the settings that another program wrote into them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blockrun_magic.images.metadata import png_chunks, png_text
from blockrun_magic.images.provenance import read
from blockrun_magic.notebook.display.cards import Table, short

__all__ = ["FileSettings", "settings_of"]

_MAX_TEXT = 1_000_000
_SIZE = re.compile(r"\bSize: (\d{2,5})x(\d{2,5})")
_NEGATIVE = "\nNegative prompt:"
_STEPS = "\nSteps:"
_PROMPT_NODES = ("CLIPTextEncode", "CLIPTextEncodeSDXL", "CLIPTextEncodeFlux")


@dataclass(frozen=True, slots=True)
class FileSettings:
    """Settings in an image file: the program that made it, the prompt, and other facts."""

    program: str
    prompt: str
    size: str | None = None
    model: str | None = None
    rows: tuple[tuple[str, str], ...] = ()

    @property
    def html(self) -> str:
        """A table for people."""
        rows = [("prompt", short(self.prompt, 300)), *self.rows]
        return Table(("", ""), rows, title=f"Made with {self.program}", left=2).html


def settings_of(data: bytes) -> FileSettings | None:
    """Return the settings in the bytes of an image file, or None; nothing in them is trusted."""
    receipt = read(data)
    if receipt is not None and isinstance(receipt.get("prompt"), str):
        return _from_receipt(receipt)
    texts = dict(_texts(data))
    if "parameters" in texts:
        return _from_parameters(texts["parameters"])
    return _from_workflow(texts.get("prompt", ""))


def _texts(data: bytes) -> Iterator[tuple[str, str]]:
    try:
        for chunk in png_chunks(data):
            text = png_text(chunk)
            if text is not None and len(text[1]) <= _MAX_TEXT:
                yield text
    except ValueError:
        return


def _from_receipt(receipt: Mapping[str, Any]) -> FileSettings:
    rows = tuple((name, short(str(value), 120)) for name, value in receipt.items() if name != "prompt")
    size, model = receipt.get("size"), receipt.get("model")
    return FileSettings(
        "blockrun-magic",
        str(receipt["prompt"]),
        size if isinstance(size, str) else None,
        model if isinstance(model, str) else None,
        rows,
    )


def _from_parameters(text: str) -> FileSettings:
    """Return the settings of AUTOMATIC1111: the prompt, a negative prompt, and a line of values."""
    head, steps, facts = text.rpartition(_STEPS)
    if not steps:
        head, _, facts = text.rpartition("\n")
        head, facts = (head, facts) if _SIZE.search(facts) else (text, "")
    prompt, _, negative = head.partition(_NEGATIVE)
    size = _SIZE.search(facts)
    rows = [("negative prompt", short(negative.strip(), 200))] if negative.strip() else []
    rows += [("settings", short(f"{steps.strip()}{facts}", 300))] if facts.strip() else []
    return FileSettings("AUTOMATIC1111", prompt.strip(), f"{size[1]}x{size[2]}" if size else None, rows=tuple(rows))


def _from_workflow(text: str) -> FileSettings | None:
    """Return the first prompt in a workflow of ComfyUI, or None."""
    try:
        nodes = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(nodes, dict):
        return None
    prompts: list[str] = []
    size = None
    for node in nodes.values():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if not isinstance(inputs, dict):
            continue
        written = inputs.get("text") or inputs.get("clip_l")
        if node.get("class_type") in _PROMPT_NODES and isinstance(written, str):
            prompts.append(written)
        width, height = inputs.get("width"), inputs.get("height")
        if isinstance(width, int) and isinstance(height, int) and "Latent" in str(node.get("class_type")):
            size = f"{width}x{height}"
    return FileSettings("ComfyUI", prompts[0], size, rows=()) if prompts else None
