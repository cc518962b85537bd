"""Prompt helpers: styles as chips, the last prompts, and templates with {fields}."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ipywidgets as widgets

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.cells.prompts import fill
from blockrun_magic.notebook.cells.stray_flags import check_body
from blockrun_magic.notebook.display.cards import short
from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.widgets import field, row, show_if

if TYPE_CHECKING:
    from blockrun_magic.notebook.cells.styles import Style

__all__ = ["PromptHelp", "check_words"]

_FIELD = re.compile(r"(?<!\{)\{(\w{1,40})\}(?!\})")
_MAX_FIELDS = 6
_TEMPLATES = (
    "a {subject} in the style of {style}, {light}",
    "product photo of {product} on {background}, soft light",
    "a {animal} wearing {clothes}, studio portrait",
    "an isometric map of {place}, clean lines",
)


def check_words(magic: str, prompt: str, *, advice: str = "") -> None:
    """Raise FlagError for a prompt that contains a flag of ours or of another tool, as a cell does."""
    try:
        check_body(magic, prompt)
    except FlagError as error:
        raise FlagError(error.message, f"Choose it in the form, or remove it.{advice}") from error


class PromptHelp:
    """Chips, lists and field inputs for one prompt; `prompt` is the text area that they change."""

    def __init__(
        self, prompt: widgets.Textarea, styles: Sequence[Style], templates: Sequence[str] = _TEMPLATES
    ) -> None:
        self.prompt = prompt
        self.style = light.ToggleButtons(
            options=[("no style", ""), *((style.name, style.name) for style in styles)],
            tooltips=["Send the prompt as it is", *(style.look for style in styles)],
        )
        self.style.add_class("brm-chips")
        self.recent = field(light.Dropdown(description="Recently used", options=[("choose …", "")]))
        self.template = field(
            light.Dropdown(description="Templates", options=[("choose …", ""), *((t, t) for t in templates)])
        )
        self._fields: dict[str, widgets.Text] = {}
        self.fields_box = row(classes=("brm-fields",))
        show_if(self.fields_box, visible=False)

    def offer_recent(self, prompts: Sequence[str]) -> None:
        """Offer the last prompts."""
        options = (("choose …", ""), *((short(prompt, 70), prompt) for prompt in prompts))
        if tuple(self.recent.options) != options:
            self.recent.options = options

    def take(self, choice: widgets.Dropdown) -> None:
        """Put the chosen prompt or template into the text area."""
        if choice.value:
            self.prompt.value = choice.value
            choice.value = ""

    def new_fields(self) -> list[widgets.Text]:
        """Show an input for each {field} of the prompt, and return the new ones."""
        names = list(dict.fromkeys(_FIELD.findall(self.prompt.value)))[:_MAX_FIELDS]
        if names == list(self._fields):
            return []
        created = {name: _input(name) for name in names if name not in self._fields}
        self._fields = {name: created.get(name) or self._fields[name] for name in names}
        self.fields_box.children = tuple(self._fields.values())
        show_if(self.fields_box, visible=bool(names))
        return list(created.values())

    @property
    def values(self) -> tuple[str, ...]:
        """The contents of the fields, for comparison."""
        return tuple(text.value for text in self._fields.values())

    def prompts(self) -> list[str]:
        """Return the prompts: one, or every combination of the fields' values; raises FlagError."""
        text = self.prompt.value.strip()
        filled = {name: _items(box.value) for name, box in self._fields.items() if _items(box.value)}
        if not filled:
            return [text]  # braces can be plain text
        missing = next((name for name in self._fields if name not in filled), None)
        if missing is not None:
            raise FlagError(f"The field {missing} is empty.", "Fill it in, or empty the other fields.")
        return fill(text, filled)


def _input(name: str) -> widgets.Text:
    return field(light.Text(description=name, placeholder="one, or several, with commas", continuous_update=False))


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
