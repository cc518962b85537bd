"""The grammar of a cell: every prompt is kept, every flag is read, every mistake gets a helpful error."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from dataclasses import fields, replace
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from blockrun_magic.errors import FlagError
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.gateway.catalog.sizes import SIZE_WORDS, resolve_size
from blockrun_magic.notebook.cells.flags import FLAGS, MAGICS, Flags, find_flag, help_text
from blockrun_magic.notebook.cells.parser import asks_for_help, parse, parse_flags, render
from blockrun_magic.notebook.cells.stray_flags import check_body

ANY = st.characters(exclude_categories=())
BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def has_no_flags(body: str) -> bool:
    """Return whether a body is accepted as a prompt."""
    try:
        check_body("imagegen", body)
    except FlagError:
        return False
    return True


prompts = st.text(ANY, min_size=1).map(str.strip).filter(bool).filter(has_no_flags)
values = st.text(st.characters(exclude_characters=BREAKS), min_size=1).filter(str.strip)
names = values.map(lambda text: text.replace(",", "").strip()).filter(bool)
sizes = st.builds("{}x{}".format, st.integers(1, 99999), st.integers(1, 99999))
variables = st.from_regex(r"[^\W\d]\w{0,8}", fullmatch=True).map(lambda text: normalize("NFKC", text))


def several(items: st.SearchStrategy[str], least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    """Return tuples of up to three items."""
    return st.lists(items, min_size=least, max_size=3).map(tuple)


def said(magic: str) -> st.SearchStrategy[Flags]:
    """Return all valid flags and prompts of a magic."""
    edits = magic == "img2img"
    from_a_list = st.tuples(st.just(""), values, st.just(value=False))
    from_the_cell = st.tuples(prompts, st.none(), st.booleans())
    return st.tuples(_choices(magic, edits=edits), from_the_cell | from_a_list).map(
        lambda both: replace(both[0], prompt=both[1][0], prompts=both[1][1], each=both[1][2])
    )


def _choices(magic: str, *, edits: bool) -> st.SearchStrategy[Flags]:
    """Return all flags except those that supply prompts."""
    return st.builds(
        Flags,
        prompt=prompts,
        style=st.none() | values,
        vary=st.booleans() if edits else st.just(value=False),
        fill=st.booleans(),
        jobs=st.none() | st.integers(1, 32),
        background=st.booleans(),
        models=several(names),
        sizes=several(sizes),
        n=st.none() | st.integers(1, 10),
        quality=st.none() | names.map(str.lower).map(str.strip).filter(bool),
        name=st.none() | variables.filter(is_variable),
        save=st.none() | values,
        max_price=st.none() | st.integers(0, 10**15),
        yes=st.booleans(),
        dry_run=st.booleans(),
        fresh=st.booleans(),
        take=st.none() | st.integers(1, 999_999),
        full=st.booleans(),
        quiet=st.booleans(),
        unchecked=st.booleans(),
        private=st.booleans(),
        images=several(values, 1) if edits else st.just(()),
        mask=st.none() | values if edits else st.none(),
    )


def is_variable(text: str) -> bool:
    """Return whether `text` is accepted as the name of a variable."""
    try:
        parse_flags("imagegen", f"--as {text}")
    except FlagError:
        return False
    return True


def parts(magic: str, text: str) -> tuple[str, str]:
    """Return the line and the body that IPython passes to a cell magic."""
    call = ast.parse(TransformerManager().transform_cell(text)).body[0]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    name, line, body = map(ast.literal_eval, call.value.args)
    assert magic == name
    return line, body


def line(text: str, magic: str = "imagegen") -> Flags:
    """Return the flags parsed from a line magic."""
    return parse(magic, text, None)


def mistake(text: str, cell: str | None = None, magic: str = "imagegen") -> FlagError:
    """Return the error for a line that cannot be parsed."""
    with pytest.raises(FlagError) as caught:
        parse(magic, text, cell)
    return caught.value


@pytest.mark.parametrize("magic", MAGICS)
@given(data=st.data())
def test_what_is_rendered_parses_back(magic: str, data: st.DataObject) -> None:
    """The rendered cell of any request parses back to the same request."""
    flags = data.draw(said(magic))

    header, _, body = render(magic, flags).partition("\n")

    assert flags == parse(magic, header.removeprefix(f"%%{magic}"), body)


@pytest.mark.parametrize("magic", MAGICS)
@given(data=st.data())
def test_the_same_is_said_on_one_line(magic: str, data: st.DataObject) -> None:
    """The same flags and prompt on one line, separated by --, give the same request."""
    flags = data.draw(said(magic))

    header = render(magic, flags).partition("\n")[0].removeprefix(f"%%{magic}")

    assert flags == parse(magic, f"{header} -- {flags.prompt}", None)


@given(said("img2img"))
def test_ipython_hands_over_the_same(flags: Flags) -> None:
    """A rendered cell stays the same after IPython's own parsing."""
    flags = replace(flags, prompt=re.sub(r"[\ud800-\udfff]", "?", flags.prompt))

    line_, body = parts("img2img", render("img2img", flags))

    assert flags == parse("img2img", line_, body)


@given(st.text(ANY).filter(has_no_flags))
def test_a_cell_body_is_the_prompt(body: str) -> None:
    """The whole body is the prompt, except for surrounding whitespace."""
    if not body.strip():
        mistake("", body)
        return

    assert Flags(body.strip()) == parse("imagegen", "", body)


@given(prompts)
def test_a_line_without_flags_is_the_prompt(prompt: str) -> None:
    """Without flags, the line is the prompt, character for character."""
    if any(re.fullmatch(r"--?[^\W\d_].*|--", word) for word in prompt.split()):
        return

    assert Flags(prompt) == line(prompt)
    assert replace(Flags(prompt), models=("flux",), fresh=True) == line(f"-m flux {prompt} --fresh")


@given(
    st.lists(
        st.sampled_from([*(spelling for flag in FLAGS for spelling in flag.spellings), "--", "=", '"', "'", ","])
        | st.sampled_from([" ", "\t", "flux", "1024x1024", "0.05", "4", "--nodel", "-", "\\", "\n"])
        | st.text(ANY, max_size=5)
    ).map("".join),
    st.none() | st.text(ANY, max_size=5),
    st.sampled_from(MAGICS),
)
def test_nothing_but_a_flag_error_is_raised(text: str, cell: str | None, magic: str) -> None:
    """Any line and body are either parsed or refused with printable text; parsed flags render and parse back."""
    try:
        flags = parse(magic, text, cell)
    except FlagError as error:
        texts = [error.message, error.hint]
    else:
        texts = []
        header, _, body = render(magic, flags).partition("\n")

        if header.startswith("%%"):
            assert flags == parse(magic, header.removeprefix(f"%%{magic}"), body)
        else:
            assert flags == parse(magic, header.removeprefix(f"%{magic}"), None)

    assert all(text.isprintable() for text in texts)


@pytest.mark.parametrize(
    "prompt",
    [
        "don't panic",
        'a sign that says "OPEN \'til 9"',
        '"all in quotes"',
        "it's $5 for {two} at 50% off, `really`",
        "a 🦊, 雪の中の狐, ein Füchslein",
        "wide   inner    spacing",
        "a well-known dash — and – another - and -5 and --5 and -- not",
        "---rule--- -_- -- x",
        "C:\\new\\table",
        "half \ud83e",
    ],
)
def test_prompts_on_one_line_are_literal(prompt: str) -> None:
    """Apostrophes, quotes, dashes, braces and spaces in a one-line prompt are literal."""
    before, _, after = prompt.partition(" -- ")
    expected = f"{before} {after}" if after else prompt

    assert expected == line(prompt).prompt
    assert prompt == line(f"-- {prompt}").prompt
    assert prompt == parse("imagegen", "--model flux", f"\n{prompt}\n").prompt


def test_a_body_may_look_like_flags() -> None:
    """Flags in the middle of a body are prompt text; inner lines and spaces stay."""
    body = "\n  a --model\n\n\tkeep   this \\\n%%imagegen\n  \n"

    assert parse("imagegen", "-n 2", body) == Flags("a --model\n\n\tkeep   this \\\n%%imagegen", n=2)


def test_flags_may_stand_anywhere() -> None:
    """Flags may be anywhere on the line; each leaves one space, and other spaces stay."""
    actual = line("  a red  --model flux   fox -s=1216x832 in the  snow -n 2  ")

    assert actual == Flags("a red fox in the  snow", models=("flux",), sizes=("1216x832",), n=2)


def test_every_flag_is_read() -> None:
    """All flags are read together, in both spellings."""
    actual = parse(
        "img2img",
        "-i a.png --image=b.png -m flux,grok -s 1024×1024,512*512 -n=3 --quality HD --as city"
        " --save ~/x.png --max-price $0.25 --yes --dry-run --fresh --take 2 --full --quiet --unchecked --private"
        " --mask m.png",
        "make it snow",
    )

    assert actual == Flags(
        "make it snow",
        models=("flux", "grok"),
        sizes=("1024x1024", "512x512"),
        n=3,
        quality="hd",
        name="city",
        save="~/x.png",
        max_price=250_000,
        yes=True,
        dry_run=True,
        fresh=True,
        take=2,
        full=True,
        quiet=True,
        unchecked=True,
        private=True,
        images=("a.png", "b.png"),
        mask="m.png",
    )


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('--save "my pictures/a b.png" x', "my pictures/a b.png"),
        ("--save='my pictures/a b.png' x", "my pictures/a b.png"),
        ('--save "C:\\new images\\" x', "C:\\new images\\"),
        ("--save C:\\new\\ x", "C:\\new\\"),
        ("--save it's.png x", "it's.png"),
        ('--save "it\'s.png" x', "it's.png"),
        ('--save "it\'s "\'"this"\' x', 'it\'s "this"'),
        ("--save=-a.png x", "-a.png"),
        ('--save "-a.png" x', "-a.png"),
        ("--save=a=b.png x", "a=b.png"),
        ("--save - x", "-"),
    ],
)
def test_values_may_be_quoted(text: str, path: str) -> None:
    """Quotes around a value are removed; backslashes are literal."""
    assert Flags("x", save=path) == line(text)


def test_a_data_uri_is_one_image() -> None:
    """A comma in a data URI does not split it."""
    assert line("-i data:image/png;base64,AA== x", "img2img").images == ("data:image/png;base64,AA==",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1024×1024", ("1024x1024",)),
        ("1024X768", ("1024x768",)),
        ("1024*768,512x512", ("1024x768", "512x512")),
        ("'1024 x 768, 512 x 512'", ("1024x768", "512x512")),
        ("16:9,Portrait", ("16:9", "portrait")),
        ("0512x0512", ("512x512",)),
    ],
)
def test_sizes_as_people_write_them(text: str, expected: tuple[str, ...]) -> None:
    """The times sign, `*` and `X` all mean `x` in a size."""
    assert expected == line(f"a fox --size {text}").sizes


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a --nodel flux", ("'--nodel'", "--model")),
        ("a -model flux", ("'-model'", "--model")),
        ("a --n 4", ("'--n'", "-n")),
        ("a --max 1", ("'--max'", "--max-price")),
        ("a --Fresh", ("'--Fresh'", "--fresh")),
        ("a cat -like thing", ("'-like'", "--")),
        ("a --élan", ("'--élan'", "--")),
        ("--model flux -m grok x", ("--model", "a,b")),
        ("--fresh --fresh x", ("--fresh",)),
        ("--model flux,,grok x", ("'flux,,grok'", "a,b,c")),
        ("--model flux, grok", ("'flux,'", "a,b,c")),
        ("x --model", ("--model", "NAME")),
        ("--model --size 1024x1024 x", ("--model", "NAME")),
        ("--model= x", ("--model", "NAME")),
        ("--save ' ' x", ("--save", "PATH")),
        ("--model -- x", ("--model", "NAME")),
        ("--dry-run=yes x", ("--dry-run",)),
        ("--save 'a x", ("--save",)),
        ('--save "a"b x', ("--save",)),
        ("--save 'a\nb' x", ("--save",)),
        ("--size big x", ("'big'", "1024x1024")),
        ("--size 2048 x", ("'2048'", "2048x2048")),
        ("--size 0x10 x", ("'0x10'", "1024x1024")),
        ("--size 0:9 x", ("'0:9'", "16:9")),
        ("--size portrat x", ("'portrat'", "portrait")),
        ("-n 0 x", ("'0'", "1 to 10")),
        ("-n 11 x", ("'11'", "1 to 10")),
        ("-n two x", ("'two'", "1 to 10")),
        ("-n -2 x", ("'-2'", "1 to 10")),
        ("-n 2.0 x", ("'2.0'", "1 to 10")),
        ("--take 0 x", ("'0'", "--take 2")),
        ("--as 2x x", ("'2x'", "--as image")),
        ("--as my-cat x", ("'my-cat'", "--as my_cat")),
        ("--as class x", ("'class'", "--as class_")),
        ("--as _ x", ("'_'", "--as image")),
        ("--max-price cheap x", ("'cheap'", "--max-price 0.05")),
        ("--max-price -1 x", ("'-1'", "--max-price 0.05")),
        (f"--max-price {'9' * 40} x", ("--max-price 0.05",)),
        ("--image a.png x", ("--image", "%%img2img")),
        ("--mask=m x", ("--mask", "%%img2img")),
        ("", ("%imagegen",)),
        ("--model flux --", ("%imagegen",)),
    ],
)
def test_a_mistake_names_the_thing_and_what_to_write(text: str, names: tuple[str, ...]) -> None:
    """The error quotes the mistake and shows a correct spelling."""
    error = mistake(text)

    assert all(name in str(error) for name in names), str(error)


@pytest.mark.parametrize(
    ("flag", "instead"),
    [
        ("--seed 42", "--fresh"),
        ("--steps 30", ""),
        ("--negative blurry", "prompt"),
        ("--negative-prompt blurry", "prompt"),
        ("--ar 16:9", "--size"),
        ("--aspect 16:9", "--size"),
        ("--width 512", "--size"),
        ("--batch 4", "-n 4"),
        ("--no dogs", "prompt"),
        ("--v 6", "--model"),
        ("--stylize 100", "--style"),
        ("--Seed=42", "--fresh"),
        ("--cfg_scale 3", ""),
        ("--num_inference_steps 3", ""),
        ("--num_images 3", "-n 4"),
        ("--negative_prompt dogs", "prompt"),
        ("--lora x", "--style"),
        ("--provider openai", "--model"),
        ("-n4", "-n 4"),
    ],
)
def test_flags_of_other_tools_have_an_honest_answer(flag: str, instead: str) -> None:
    """A flag of another tool gets a hint about its replacement here."""
    error = mistake(f"a kite {flag}")

    assert instead in error.hint
    assert 2 == len(error.lines)
    assert flag.replace("=", " ").split()[0] in error.message


@pytest.mark.parametrize(
    "text",
    [
        "a kite \u2014size 1216x832",
        "a kite \u2013size=1216x832",
        "a kite \u2014\u2014model flux",
        "\u2014fresh a kite",
        "a kite \u200b--size 1216x832",
        "a kite \u2060\ufeff-n 4",
        "a kite \u2013n 4",
        "a kite \u2014ar 16:9",
        "--save \u201cmy kite.png\u201d a kite",
        "--as \u2018kite\u2019 a kite",
        "--save=\u201emy kite.png\u201c a kite",
    ],
)
def test_dashes_and_quotes_of_a_phone_are_refused(text: str) -> None:
    """A flag with a phone's typographic dashes or quotes is refused, on a line or above a body."""
    mistake(text)
    mistake(text, "a body")


@pytest.mark.parametrize(
    "text",
    ["a fox \u2014 at night", "the bridge \u2014old and red\u2014 at dawn", "5\u20136 foxes", "a \u201cred\u201d fox"],
)
def test_dashes_and_quotes_of_a_prompt_stay(text: str) -> None:
    """Other typographic dashes and quotes belong to the prompt."""
    assert text == line(text).prompt


@pytest.mark.parametrize(
    "body",
    [
        "--model flux\na cat",
        "a cat\n  --fresh",
        "-n 4\na cat",
        "--size=1216x832 a cat",
        "a cat --size 1216x832",
        "a cat --ar 16:9 --v 6",
        "a cat --ar 16:9\n",
        "a cat, photo --no dogs and cats",
        "a cat --tile",
        "a cat --stylize=100 --fresh",
        "a cat \u2014ar 16:9",
        "a cat \u200b--size 1216x832",
        "\ufeff--size 1216x832\na cat",
        "\u2014size 1216x832\na cat",
        "a cat --seed 7 --ar 3:2\nin the snow",
        "a cat --help",
        "a cat --cfg_scale 7",
        "a cat\nNegative prompt: dogs\nSteps: 20, Sampler: Euler a, CFG scale: 7",
        "a cat\nSteps: 20, Sampler: DPM++ 2M, Seed: 1",
    ],
)
def test_flags_in_a_body_are_refused(body: str) -> None:
    """A body with a flag at the start of a line or the end of the prompt is refused."""
    mistake("", body)


@pytest.mark.parametrize(
    "body",
    [
        "a sign that says --model",
        "a poster: --size matters to foxes",
        "rock -- and -- roll",
        "--- a rule ---\n-- x",
        "- a list\n- of things",
        "a --well-- known thing",
        "x --unknown 5",
        "-5 degrees",
    ],
)
def test_other_dashes_in_a_body_are_prompt(body: str) -> None:
    """Dashes that form no complete flag stay in the prompt."""
    assert body == parse("imagegen", "", body).prompt


@pytest.mark.parametrize(
    "body", ["a terminal with git push --force", "--model flux\nis written on a wall", "-h --help"]
)
def test_two_hyphens_at_the_end_of_the_first_line_make_the_body_literal(body: str) -> None:
    """With -- at the end of the first line the body is literal, and the rendered cell parses back to it."""
    flags = parse("imagegen", "--fresh --", body)
    header, _, again = render("imagegen", flags).partition("\n")

    assert (body, True) == (flags.prompt, flags.fresh)
    assert again or " -- " in header
    if again:
        assert flags == parse("imagegen", header.removeprefix("%%imagegen"), again)


def test_words_on_the_first_line_of_a_cell_are_no_prompt() -> None:
    """A prompt on the first line of a cell is refused, and the error quotes it."""
    assert "'a red fox'" in mistake("--model flux a red fox", "in the snow").message


@pytest.mark.parametrize("cell", [None, "make it snow"])
def test_an_edit_needs_an_image(cell: str | None) -> None:
    """The error for %%img2img without --image shows how to name an image."""
    error = mistake("make it snow" if cell is None else "", cell, "img2img")

    assert "--image img" in error.hint


def test_flags_without_a_prompt_can_be_read() -> None:
    """Flags alone, as for a price, need no prompt."""
    assert Flags("", models=("flux",), n=2) == parse_flags("imagegen", "--model flux -n 2")


def test_names_are_bound_as_python_reads_them() -> None:
    """--as normalizes a name as Python does."""
    assert line("--as ﬁg x").name == "fig"


def test_a_long_line_is_read_in_no_time() -> None:
    """Lines of several hundred thousand characters are parsed quickly."""
    for trap in ("'", '"', "-", "- ", '"" ', "a ", '""', "''\"\""):
        text = trap * 200_000
        for start in ("", "-- ", "--save "):
            with suppress(FlagError):
                line(start + text)


def test_the_table_and_the_fields_agree() -> None:
    """Every flag has a field, every field but the prompt has a flag, and spellings are unique."""
    spellings = [spelling for flag in FLAGS for spelling in flag.spellings]

    assert {field.name for field in fields(Flags)} - {"prompt"} == {flag.field for flag in FLAGS}
    assert len(set(spellings)) == len(spellings)
    assert all((flag.kind == "switch") == (flag.metavar is None) for flag in FLAGS)
    assert all(flag is find_flag(spelling) for flag in FLAGS for spelling in flag.spellings)


@pytest.mark.parametrize("magic", MAGICS)
def test_the_help_page_is_complete(magic: str) -> None:
    """The help page describes exactly the magic's own flags."""
    page = help_text(magic)

    assert f"%%{magic}" in page
    for flag in FLAGS:
        assert (magic in flag.magics) == (flag.help in page)
        assert flag.help.endswith(".")
    assert max(map(len, page.splitlines())) <= 100


@pytest.mark.parametrize("magic", MAGICS)
def test_the_examples_of_the_help_page_work(magic: str) -> None:
    """The examples on the help page parse."""
    page = help_text(magic)
    cell = re.search(rf"^    %%{magic} (.+)\n    (.+)$", page, re.MULTILINE)
    lines = re.findall(rf"^    %{magic} (.+)$", page, re.MULTILINE)

    assert cell is not None
    assert parse(magic, cell[1], cell[2]).prompt == cell[2]
    assert len(lines) == 2
    assert all(parse(magic, text, None).prompt for text in lines)


@pytest.mark.parametrize(
    ("model", "text", "size"),
    [
        ("flux", "16:9", "1216x832"),
        ("flux", "portrait", "832x1216"),
        ("flux", "square", "1024x1024"),
        ("flux", "640x480", "640x480"),
        ("dall-e-3", "16:9", "1792x1024"),
        ("dall-e-3", "9/16", "1024x1792"),
        ("dall-e-3", "hd", "1792x1024"),
        ("nano-banana-pro", "hd", "2048x2048"),
        ("nano-banana-pro", "4k", "4096x4096"),
        ("gpt-image", "landscape", "1536x1024"),
        ("cogview", "16:9", "1360x768"),
    ],
)
def test_a_size_in_words_is_one_that_the_model_sells(model: str, text: str, size: str) -> None:
    """A ratio or a word becomes the nearest size that the model sells; pixel sizes stay."""
    assert size == resolve_size(text, SNAPSHOT.resolve(model), SNAPSHOT)


def test_small_and_auto_are_the_usual_size_where_nothing_smaller_is_sold() -> None:
    """`small` and `auto` give the default size; a landscape with slightly fewer pixels does not count as small."""
    assert ["1024x1024"] * 2 == [resolve_size(text, "google/nano-banana", SNAPSHOT) for text in ("small", "auto")]


def test_a_shape_that_the_model_does_not_sell_is_refused() -> None:
    """A ratio that a square-only model cannot produce is refused; the hint lists its sizes."""
    with pytest.raises(FlagError) as caught:
        resolve_size("16:9", SNAPSHOT.resolve("nano-banana-pro"), SNAPSHOT)

    assert "2048x2048" in caught.value.hint


@pytest.mark.parametrize("model", [model.id for model in SNAPSHOT.models])
@pytest.mark.parametrize("text", SIZE_WORDS)
def test_every_size_word_gives_a_sold_size_or_an_error(model: str, text: str) -> None:
    """Every size word gives a size that the model sells, or an error."""
    found = SNAPSHOT.find(model)
    try:
        size = resolve_size(text, model, SNAPSHOT)
    except FlagError:
        return

    assert found is not None
    assert found.allows_size(size)


@pytest.mark.parametrize(
    ("text", "wanted"), [("--help", True), ("-h", True), ("a cat --help", True), ("-- --help", False), ("", False)]
)
def test_help_is_asked_for_like_anywhere(text: str, wanted: bool) -> None:
    """--help and -h request help, except after --."""
    assert wanted == asks_for_help(text)


def test_help_is_asked_for_in_a_body_or_by_a_question_mark() -> None:
    """A body of only --help and a line of only ? request help."""
    assert asks_for_help("", "--help\n")
    assert asks_for_help(" ? ")
    assert not asks_for_help("", "?")
    assert not asks_for_help("", "a cat --help")
