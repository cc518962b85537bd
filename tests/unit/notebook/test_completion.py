"""TAB completion: every answer comes from the tables, replaces the right text, and never fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPython.core.completer import provisionalcompleter
from IPython.terminal.interactiveshell import TerminalInteractiveShell
from PIL import Image

from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.notebook.cells.flags import FLAGS
from blockrun_magic.notebook.commands.registry import COMMANDS


@pytest.fixture(scope="module")
def shell() -> Iterator[Any]:
    """Return a terminal shell with the extension loaded."""
    TerminalInteractiveShell.clear_instance()
    shell = TerminalInteractiveShell.instance()
    shell.history_manager.enabled = False
    shell.extension_manager.load_extension("blockrun_magic")
    shell.push({"img": Image.new("L", (2, 2)), "cat": Image.new("L", (2, 2)), "number": 5, "lines": ["a fox"]})
    yield shell
    shell.extension_manager.unload_extension("blockrun_magic")
    shell.history_manager.end_session()
    TerminalInteractiveShell.clear_instance()


def complete(shell: Any, text: str) -> tuple[list[str], set[str]]:
    """Return the completions at the end of `text`, and the fragments they replace."""
    with provisionalcompleter():
        found = list(shell.Completer.completions(text, len(text)))
    return [answer.text for answer in found], {text[answer.start : answer.end] for answer in found}


def test_every_flag_of_a_magic_is_offered(shell: Any) -> None:
    """After a dash, TAB offers exactly the flags of that magic."""
    answers, replaced = complete(shell, "%%img2img --")

    assert {flag.name for flag in FLAGS if flag.name.startswith("--")} == set(answers)
    assert {"--"} == replaced
    assert "--mask" not in complete(shell, "%%imagegen --")[0]


def test_a_flag_given_already_is_not_offered_again(shell: Any) -> None:
    """A used flag is not offered again, except --image."""
    answers, _ = complete(shell, "%%img2img --image cat --fresh --")

    assert "--fresh" not in answers
    assert "--image" in answers


@pytest.mark.parametrize(
    ("text", "fragment", "first"),
    [
        ("%imagegen --model fl", "fl", "flux"),
        ("%%imagegen -m fl", "fl", "flux"),
        ("%%imagegen --model=fl", "fl", "flux"),
        ("%%imagegen --model nano-banana,fl", "fl", "flux"),
        ("%%imagegen -m openai/", "openai/", "openai/gpt-image-1"),
        ("x = %imagegen --model fl", "fl", "flux"),
        ("  %imagegen --model fl", "fl", "flux"),
        ("%imagegen --model flux --size 12", "12", "1216x832"),
        ("%imagegen -m dall-e-3 --size 1024x1024,17", "17", "1792x1024"),
        ("%imagegen --quality h", "h", "hd"),
        ("%imagegen --style wat", "wat", "watercolor"),
        ("%imagegen --prompts li", "li", "lines"),
        ("%img2img --image ca", "ca", "cat"),
        ("%img2img --mask ca", "ca", "cat"),
        ("%blockrun sp", "sp", "spend"),
        ("%blockrun use pra", "pra", "practice"),
        ("%blockrun use claw", "claw", "clawrouter"),
        ("%blockrun use base --re", "--re", "--remember"),
        ("%blockrun spend --re", "--re", "--reconcile"),
        ("%blockrun resolve 3fa9 --n", "--n", "--not-charged"),
        ("%imagegen --gateway cla", "cla", "clawrouter"),
        ("%imagegen --gateway=acc", "acc", "account"),
        ("%blockrun models flu", "flu", "flux"),
        ("%blockrun wallet b", "b", "balance"),
        ("%blockrun spend to", "to", "today"),
        ("%blockrun budget --se", "--se", "--session"),
        ("%blockrun store pr", "pr", "prune"),
        ("%blockrun price --mod", "--mod", "--model"),
        ("%blockrun info ca", "ca", "cat"),
        ("%blockrun price fl", "fl", "flux"),
        ("%blockrun price flux --size=12", "12", "1216x832"),
        ("%blockrun history --pa", "--pa", "--page"),
        ("%blockrun wallet create --en", "--en", "--encrypt"),
        ("%blockrun store prune --ol", "--ol", "--older-than"),
        ("%blockrun lesson ex", "ex", "export"),
        ("%blockrun help wal", "wal", "wallet"),
        ("%imagegen --size por", "por", "portrait"),
    ],
)
def test_an_answer_replaces_exactly_its_fragment(shell: Any, text: str, fragment: str, first: str) -> None:
    """An answer replaces only its fragment; commas and `=` before it stay."""
    answers, replaced = complete(shell, text)

    assert first == answers[0]
    assert {fragment} == replaced


def test_img_comes_first_and_numbers_are_no_pictures(shell: Any) -> None:
    """TAB offers only variables that hold images, with `img` first."""
    answers, _ = complete(shell, "%img2img --image ")

    assert "img" == answers[0]
    assert "cat" in answers
    assert "number" not in answers


def test_files_and_folders_are_offered(shell: Any, tmp_path: Path) -> None:
    """TAB offers folders and image files, and no other files."""
    folder = tmp_path / "pictures"
    (folder / "holiday").mkdir(parents=True)
    (folder / "photo.png").touch()
    (folder / "notes.txt").touch()
    answers, _ = complete(shell, f"%img2img --image {folder}/")

    assert [f"{folder}/holiday/", f"{folder}/photo.png"] == answers


def test_common_flags_come_first(shell: Any) -> None:
    """Common flags come before rare ones."""
    for text in ("%%imagegen --", "%%imagegen ", "%imagegen a red fox "):
        answers, _ = complete(shell, text)

        assert ["--model", "--size"] == answers[:2]
    assert answers.index("--as") < answers.index("--unchecked")


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("%imagegen --", {"flag"}),
        ("%img2img --image im", {"variable"}),
        ("%blockrun ", {"command"}),
        ("%blockrun spend to", {"choice"}),
    ],
)
def test_every_answer_has_a_type(shell: Any, text: str, types: set[str]) -> None:
    """Every completion has a type that front ends can show."""
    with provisionalcompleter():
        answers = list(shell.Completer.completions(text, len(text)))

    assert types == {answer.type for answer in answers}


def test_a_terminal_shows_prices_beside_models(shell: Any) -> None:
    """The type of a model completion includes its price."""
    text = "%imagegen --model flu"
    with provisionalcompleter():
        answers = list(shell.Completer.completions(text, len(text)))

    assert answers[0].type.startswith("model $0.")


def test_a_thousand_variables_cost_little(shell: Any) -> None:
    """Completion looks at each variable about once, whatever its value."""
    from blockrun_magic.notebook.cells.candidates import candidates

    looks = 0

    class Counted(dict[str, object]):
        def items(self) -> Any:
            nonlocal looks
            for item in super().items():
                looks += 1
                yield item

    values = {f"name{number}": number for number in range(1000)}
    texts = {"text": "x", "phone": "data:image/png;base64,AA=="}
    namespace = Counted(values | {"photo": Image.new("L", (2, 2))} | texts)

    _, answers = candidates("image", "ph", namespace)

    assert {"photo", "phone"} <= {answer.text for answer in answers}
    assert not {"text", "name1"} & {answer.text for answer in answers}
    assert looks <= 1003


def test_every_word_is_offered(shell: Any) -> None:
    """TAB offers every command of %blockrun."""
    answers, _ = complete(shell, "%blockrun ")

    assert list(COMMANDS) == answers


def test_every_model_is_offered(shell: Any) -> None:
    """TAB offers all short names and full ids of models."""
    answers, _ = complete(shell, "%imagegen --model ")

    assert {name for model in SNAPSHOT.models for name in (*model.shorthands, model.id)} == set(answers)


def test_below_a_cell_magic_nothing_is_ours(shell: Any) -> None:
    """The body of a cell magic is a prompt, even if it looks like a magic."""
    answers, _ = complete(shell, "%%imagegen --model flux\n%imagegen --mo")

    assert "--model" not in answers


def test_python_is_left_alone(shell: Any) -> None:
    """IPython still completes Python."""
    answers, _ = complete(shell, "impor")

    assert "import" in answers


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    text=st.text(alphabet="%abgimnoesruck-=,\"' \n/~{}", max_size=40),
    head=st.sampled_from(["", "%imagegen ", "%blockrun "]),
)
def test_no_line_makes_it_fail(shell: Any, text: str, head: str) -> None:
    """TAB never fails on any line; Jedi is off here because it is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shell.Completer, "use_jedi", False)
        complete(shell, head + text)


def test_the_terminals_own_completer_answers(shell: Any) -> None:
    """The terminal's completer from prompt_toolkit gives the same answers."""
    from IPython.terminal.ptutils import IPythonPTCompleter
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    text = "%imagegen --model flux,cog"
    found = list(IPythonPTCompleter(shell=shell).get_completions(Document(text, len(text)), CompleteEvent()))

    assert ["cogview", "cogview-4"] == [answer.text for answer in found]
    assert {-3} == {answer.start_position for answer in found}


def test_unloading_takes_the_matcher_back(shell: Any) -> None:
    """After unloading, TAB offers none of our answers."""
    shell.extension_manager.unload_extension("blockrun_magic")
    answers, _ = complete(shell, "%imagegen --model fl")
    shell.extension_manager.load_extension("blockrun_magic")

    assert "flux" not in answers
