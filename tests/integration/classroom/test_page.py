"""The teacher's page, on a real socket over a practice gateway: access, contents and changes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from blockrun_magic.classroom.page.security import Access
from blockrun_magic.classroom.page.sessions import Sessions, new_ticket
from blockrun_magic.classroom.storage.reports import cell, line
from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.classroom import PRICE, Class, Student, run_command, running_class
from harness.postgresql import Cluster

PAGES = ("", "people", "people/1", "orders", "gallery", "limits", "invitations", "audit")
FOREIGN = ("<script>alert(1)</script>", "javascript:alert(1)", "=cmd()", "\u202eright to left")
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


@dataclass
class Teacher:
    """A browser with an open session on the page."""

    room: Class
    browser: httpx.Client

    @property
    def base(self) -> str:
        """The address of the page."""
        return self.room.teacher_url.partition("?")[0]

    def get(self, path: str) -> httpx.Response:
        """Open a page."""
        return self.browser.get(f"{self.base}/{path}")

    @property
    def form_token(self) -> str:
        """The token that the forms of this session send back."""
        found = re.search(r'name="form_token" value="([0-9a-f]{64})"', self.get("").text)

        assert found
        return found[1]

    def post(self, path: str, **fields: object) -> httpx.Response:
        """Send a form of the page, and return the resulting page."""
        data = {"form_token": self.form_token} | {name: str(value) for name, value in fields.items()}
        return self.browser.post(f"{self.base}/{path}", data=data, headers={"Origin": self.room.url})


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Class]:
    """Return a classroom, on each of the two engines."""
    home = tmp_path_factory.mktemp("class") / "home"
    database = cluster.empty_database() if request.param == "postgresql" else None
    with PracticeServer() as gateway, running_class(home, gateway, database=database) as room:
        room.owner.set_limit("all", "total", 20_000_000)
        yield room


@pytest.fixture(scope="module")
def teacher(room: Class) -> Iterator[Teacher]:
    """Yield a teacher who has opened the link that `serve` prints."""
    with httpx.Client(follow_redirects=True, timeout=PATIENCE) as browser:
        opened = browser.get(room.teacher_url)

        assert (200, "/teacher/") == (opened.status_code, opened.url.path)
        yield Teacher(room, browser)


@pytest.fixture(scope="module")
def ada(room: Class) -> Student:
    """Return a student who has an image."""
    student = room.student("ada", groups=("red",))

    assert 200 == student.put("a fox in snow").status_code
    return student


def test_a_link_opens_one_session(room: Class, teacher: Teacher) -> None:
    """The link of `teacher` is used up, and a browser without a session is refused everywhere."""
    with httpx.Client(follow_redirects=True, timeout=PATIENCE) as stranger:
        assert 401 == stranger.get(room.teacher_url).status_code
        assert {401} == {stranger.get(f"{teacher.base}/{path}").status_code for path in (*PAGES, "people.csv")}
        assert {} == dict(stranger.cookies)


def test_the_cookie_is_bound_to_its_host(room: Class) -> None:
    """No script reads it, and no other site sends it with a form; over https, its name binds it to the host."""
    url = f"{room.url}/teacher?ticket={new_ticket(room.records.database)}"
    over_https = httpx.get(url, headers={"X-Forwarded-Proto": "https"}, timeout=PATIENCE).headers["set-cookie"].lower()

    assert over_https.startswith("__host-classroom=")
    assert {"httponly", "secure", "samesite=lax", "path=/", "max-age=28800"} <= set(over_https.split("; "))


@pytest.mark.parametrize(
    ("headers", "secure"),
    [({}, True), ({"Host": "127.0.0.1:8765"}, False), ({"Host": "127.0.0.1", "X-Forwarded-Proto": "https"}, True)],
    ids=["public address", "another address", "by the proxy"],
)
def test_a_cookie_is_secure_where_the_public_address_is(room: Class, headers: dict[str, str], secure: bool) -> None:
    """The cookie is also secure if a proxy does not report that browsers use https."""
    door = Access(Sessions(room.records.database), room.records.members, on_hub=False, address="https://class.example")
    sent = [(name.lower().encode(), value.encode()) for name, value in ({"Host": "class.example"} | headers).items()]
    request = Request({"type": "http", "scheme": "http", "path": "/teacher", "query_string": b"", "headers": sent})
    response = Response()
    door.let_in(request, response, "teacher")

    assert secure == response.headers["set-cookie"].startswith("__Host-")
    assert secure == ("; secure" in response.headers["set-cookie"].lower())


def test_a_pass_and_a_cookie_open_one_door_each(teacher: Teacher, ada: Student) -> None:
    """A cookie is refused by the students' calls, and a pass is refused by the page."""
    assert 401 == teacher.browser.get(f"{teacher.room.url}/v1/me").status_code
    for headers in (ada.headers, {"Cookie": f"classroom={ada.secret}"}):
        assert 401 == httpx.get(f"{teacher.base}/people", headers=headers, timeout=PATIENCE).status_code


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_its_headers(teacher: Teacher, ada: Student, path: str) -> None:
    """The headers forbid scripts, resources of other sites, frames and caching."""
    page = teacher.get(path)

    assert 200 == page.status_code
    assert HEADERS == {name: page.headers[name] for name in HEADERS}
    assert "access-control-allow-origin" not in page.headers
    assert "<script" not in page.text


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        ({"form_token": "0" * 64}, {}),
        ({"form_token": ""}, {}),
        ({}, {"Origin": "https://evil.example"}),
        ({}, {"Origin": "null"}),
        ({}, {"Origin": None}),
        ({}, {"Host": "evil.example", "Origin": "http://evil.example"}),
        ({}, {"Origin": "URL."}),
        ({}, {"Origin": "URL0"}),
        ({}, {"Origin": "URL@evil.example"}),
        ({}, {"Origin": "URL.evil.example"}),
        ({}, {"Origin": "URL/"}),
        ({}, {"Origin": "URL http://evil.example"}),
        ({}, {"Origin": "ftp://HOST"}),
        ({}, {"Origin": "http://[::1]:8765"}),
        ({}, {"Host": "[::1]", "Origin": "http://::1"}),
        ({}, {"Host": "127.0.0.1.", "Origin": "http://127.0.0.1."}),
        ({}, {"Host": "127.0.0.1:80@evil.example", "Origin": "http://127.0.0.1:80@evil.example"}),
        ({}, {"Host": "", "Origin": "http://"}),
        ({}, {"X-Forwarded-Proto": "https"}),
    ],
)
def test_a_forged_form_changes_nothing(
    teacher: Teacher, changes: dict[str, str], headers: dict[str, str | None]
) -> None:
    """A change needs the form token of this session and the origin of this site."""
    before = teacher.room.records.ledger.limits()
    data = {"form_token": teacher.form_token, "subject": "class", "period": "total", "amount": "1"} | changes
    url = teacher.room.url
    sent = {name: value for name, value in ({"Origin": url} | headers).items() if value is not None}
    sent = {name: value.replace("URL", url).replace("HOST", urlsplit(url).netloc) for name, value in sent.items()}

    answer = teacher.browser.post(f"{teacher.base}/limits", data=data, headers=sent)

    assert answer.status_code in (400, 401, 403)  # over https, the cookie has another name
    assert before == teacher.room.records.ledger.limits()


def test_a_teacher_sets_limits_below_the_ceiling(teacher: Teacher) -> None:
    """A limit above the ceiling is refused, and so is the ceiling itself; an invalid amount stays in its field."""
    limits = teacher.room.records.ledger.limits
    before = limits()
    for subject, amount in (("all", "50"), ("class", "20.000001"), ("class", "much"), ("class", "-1")):
        refused = teacher.post("limits", subject=subject, period="total", amount=amount, back="limits")

        assert 422 == refused.status_code
        assert f'value="{amount}"' in refused.text
    assert before == limits()
    assert 404 == teacher.post("limits", subject="group:nobody", period="total", amount="1").status_code
    assert 200 == teacher.post("limits", subject="class", period="total", amount="19.50", back="limits").status_code
    assert 19_500_000 == limits()["class", "total"]
    assert 200 == teacher.post("limits", subject="class", period="total", amount="", back="limits").status_code
    assert before == limits()


def test_a_student_at_the_limit_continues_when_it_is_raised(room: Class, teacher: Teacher) -> None:
    """The page shows the amount that is left; the raised limit applies to the next order."""
    bob = room.student("bob")
    own = f"member:{room.member('bob').id}"
    teacher.post("limits", subject=own, period="total", amount="0.06", back="people")

    assert [200, 402] == [bob.put("a cat").status_code, bob.put("a dog").status_code]
    assert "$0.0075 left of $0.06 in total" in teacher.get("").text

    teacher.post("limits", subject=own, period="total", amount="0.12", back="people")

    assert 200 == bob.put("a dog").status_code
    assert room.agrees
    entry = room.records.audit.entries(1)[0]
    assert ("teacher", f"{own}/total", "$0.06", "$0.12") == (
        entry.actor,
        entry.subject,
        entry.old_value,
        entry.new_value,
    )


def test_a_teacher_pauses_and_revokes(room: Class, teacher: Teacher) -> None:
    """A person, a group and the class can be paused and resumed; a revoked pass stays void."""
    carla = room.student("carla", groups=("blue",))
    id_ = room.member("carla").id
    for scope in (f"member:{id_}", "group:blue", "class"):
        teacher.post("pause", scope=scope, paused=1)
        assert ["paused"] == [carla.put("a cat").json()["error"]["code"]]
        teacher.post("pause", scope=scope, paused=0)
        assert 200 == carla.put("a cat").status_code

    assert 422 == teacher.post("pause", scope="all", paused=1).status_code
    teacher.post(f"people/{id_}/revoke")

    assert 401 == carla.put("a cat").status_code


def test_an_invitation_is_shown_once(room: Class, teacher: Teacher) -> None:
    """The code admits the named person with the typed groups, and no later page shows the code."""
    made = teacher.post("invitations", name="dora", groups="red, green", days=7)
    found = re.search(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){3}", made.text)

    assert found
    assert found[0] not in teacher.get("invitations").text
    joined = httpx.post(f"{room.url}/v1/join", json={"code": found[0]}, timeout=PATIENCE).json()
    assert ("dora", ["green", "red"]) == (joined["member"]["name"], joined["groups"])
    assert 422 == teacher.post("invitations", name="both", people=3).status_code
    assert 422 == teacher.post("invitations", people="many").status_code


def test_rules_are_saved_and_what_cannot_be_saved_is_kept(teacher: Teacher, ada: Student) -> None:
    """A rule applies at once; a form with a mistake is shown with the values that were sent."""
    sent = {"scope": "group:red", "models": "zai/cogview-4", "max_n": 2, "edits": 1}
    refused = teacher.post("rules", **sent, max_size="huge", starts_at="2027-01-31T08:00")

    assert 422 == refused.status_code
    assert 'value="huge"' in refused.text
    assert 'value="2027-01-31T08:00"' in refused.text
    for rules in ({"scope": "class", "edits": 1}, {"scope": "class", "models": "no/model", "edits": 1}):
        assert 422 == teacher.post("rules", **rules).status_code
    assert 200 == teacher.post("rules", **sent).status_code
    assert ["model"] == [ada.put("a cat").json()["error"]["code"]]
    assert {"models": ["zai/cogview-4"], "max_n": 2}.items() <= ada.call("GET", "/v1/me").json()["policy"].items()
    teacher.room.owner.set_policy("group:red", models=None, max_n=None)


@pytest.mark.parametrize("text", FOREIGN)
def test_foreign_text_is_shown_as_text(room: Class, teacher: Teacher, text: str) -> None:
    """A prompt, a name or a group is never markup, a link or a formula, and never changes the direction of text."""
    name = text.replace("\u202e", "") + " person"
    student = room.student(name, groups=(text.replace("\u202e", "") + " group",))

    assert 200 == student.put(text).status_code
    for path in (*PAGES, f"people/{room.member(name).id}"):
        html = teacher.get(path).text
        assert "<script" not in html
        assert 'href="javascript' not in html
        assert "\u202e" not in html
    for path in ("people.csv", "orders.csv"):
        cells = [cell for row in csv.reader(io.StringIO(teacher.get(path).content.decode("utf-8-sig"))) for cell in row]
        assert [] == [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
        assert any(text in cell or name in cell for cell in cells)


def test_the_tables_agree_with_the_payments(room: Class, teacher: Teacher, ada: Student) -> None:
    """The sums of people and of orders equal the payments to the gateway, to the micro-dollar."""
    sums = []
    for path, column in (("people.csv", "spent_usd"), ("orders.csv", "charged_usd")):
        rows = csv.DictReader(io.StringIO(teacher.get(path).content.decode("utf-8-sig")))
        sums.append(sum(Decimal(row[column]) for row in rows))

    assert [Decimal(len(room.settlements) * PRICE).scaleb(-6)] * 2 == sums


def test_people_are_searched_and_sorted(room: Class, teacher: Teacher, ada: Student) -> None:
    """The list is filtered by a part of the name or by a group, and sorted by columns in both directions."""
    zoe, yan = room.student("Zoe", groups=("sorted",)), room.student("yan", groups=("sorted",))
    assert [200] * 3 == [one.put(text).status_code for one, text in ((zoe, "a"), (zoe, "b"), (yan, "c"))]

    def names(query: str) -> list[str]:
        return re.findall(r'people/\d+"><bdi>([^<]+)', teacher.get(f"people?{query}").text)

    assert ["Zoe"] == names("q=zo")
    assert ["yan", "Zoe"] == names("group=sorted")
    for column in ("spent", "today", "images"):
        assert ["yan", "Zoe"] == names(f"group=sorted&sort={column}")
        assert ["Zoe", "yan"] == names(f"group=sorted&sort=-{column}")
    assert ["yan", "Zoe"] == names("group=sorted&sort=nonsense")
    assert [] == names("q=nobody%20at%20all")


@pytest.mark.parametrize(
    "path", ["people/0", f"people/{2**80}", "people/x", "gallery?page=9", "orders?page=-1", "nothing"]
)
def test_odd_addresses_are_answered(teacher: Teacher, path: str) -> None:
    """An unknown address is not found, and a page number without rows shows an empty page."""
    assert (200 if "page=" in path else 404) == teacher.get(path).status_code


@pytest.mark.parametrize(
    "text", ["=1", " =1", "\ufeff+1", "＝cmd()", "@x", "-1", "\t=1", "|calc", "\n=1", " \t@x", "\u2003-1", "\u200e=1"]
)
def test_no_cell_is_a_formula(text: str) -> None:
    """Texts that look like formulas, even disguised ones, begin with an apostrophe; other texts are unchanged."""
    assert f"'{text}" == cell(text)
    assert "a = b" == cell("a = b")


@pytest.mark.parametrize("text", ["a;=cmd()", "a\t+1", 'a"\n@x', "a,b"])
def test_no_part_of_a_cell_is_another_cell(text: str) -> None:
    """A text with separators or quotes stays in one cell."""
    assert [[text, "1"]] == list(csv.reader(io.StringIO(line(cell(text), 1))))
    assert line(text).startswith('"')


def test_images_are_the_class_s_own(room: Class, teacher: Teacher, ada: Student) -> None:
    """An order has a thumbnail and an image; names of other files are not found."""
    found = re.search(r"/teacher/images/([0-9a-f]{64})", teacher.get(f"people/{room.member('ada').id}").text)

    assert found
    thumbnail, image = teacher.get(f"thumbnails/{found[1]}"), teacher.get(f"images/{found[1]}")
    assert ("image/jpeg", "image/png") == (thumbnail.headers["content-type"], image.headers["content-type"])
    assert len(thumbnail.content) < len(image.content)
    assert {404} == {teacher.get(f"images/{name}").status_code for name in ("0" * 64, "..%2F..%2Fledger", "%00")}


def test_names_prompts_and_images_can_be_hidden(room: Class, teacher: Teacher, ada: Student) -> None:
    """A teacher hides names for a session; the rule `see` hides prompts and images from every teacher."""
    teacher.post("names")
    hidden = [teacher.get(path).text for path in ("", "people", "orders", "people.csv")]
    teacher.post("names")
    room.owner.set_policy("class", see="amounts")
    amounts = [teacher.get(path).text for path in ("", "orders", "gallery", "orders.csv")]
    room.owner.set_policy("class", see="all")

    assert [] == [page for page in hidden if re.search(r"\bada\b", page)]
    assert [] == [page for page in amounts if "a fox in snow" in page or "/images/" in page]
    assert "a fox in snow" in teacher.get("gallery").text


def test_log_out_ends_the_session(room: Class, teacher: Teacher) -> None:
    """The cookie of an ended session is refused."""
    with httpx.Client(follow_redirects=True, timeout=PATIENCE) as browser:
        other = Teacher(room, browser)
        browser.get(f"{room.url}/teacher?ticket={new_ticket(room.records.database)}")
        headers = {"Cookie": f"classroom={browser.cookies['classroom']}"}
        assert 200 == other.post("logout").status_code
        assert 401 == httpx.get(f"{other.base}/people", headers=headers, timeout=PATIENCE).status_code
    assert 200 == teacher.get("people").status_code


def test_a_link_is_printed_again(room: Class, teacher: Teacher, tmp_path: Path) -> None:
    """The owner can print a new link after a session of eight hours."""
    where = ["--database", room.database] if room.database else []
    printed = run_command(room.home, "link", *where).stdout.strip()

    assert urlsplit(room.url).netloc == urlsplit(printed).netloc
    assert 303 == httpx.get(printed, timeout=PATIENCE).status_code


def test_metrics_hold_sums_and_no_names(room: Class, ada: Student) -> None:
    """The metrics have money, orders by state and requests by kind, but nothing that identifies a person."""
    report = httpx.get(f"{room.url}/metrics", timeout=PATIENCE)
    values = dict(line.rsplit(" ", 1) for line in report.text.splitlines() if not line.startswith("#"))

    assert "text/plain" in report.headers["content-type"]
    assert len(room.settlements) * PRICE == round(float(values["blockrun_classroom_spent_usd_total"]) * 1_000_000)
    assert len(room.settlements) <= float(values['blockrun_classroom_orders{state="done"}'])
    assert 0 < float(values['blockrun_classroom_requests_total{kind="orders",status="200"}'])
    assert not re.search(r"\bada\b|member|fox|group:", report.text)
