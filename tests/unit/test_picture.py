"""The picture of a decision: what is in it, in what order, and that no name can make it anything else."""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from ledger.errors import Misuse
from services.eds import svg
from services.eds.explain import Outcome
from services.eds.picture import MOST_HOSTS, picture
from services.eds.snapshot import Snapshot
from tests.helpers.decisions import FACE, REVOKED, city, crowd, decided

SVG = "{http://www.w3.org/2000/svg}"
SHAPES = {"svg", "title", "defs", "marker", "path", "rect", "g", "line", "circle", "text"}
LOOKS = {"fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "stroke-linejoin", "paint-order"}
PLACES = {"x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "d", "width", "height", "viewBox"}
REST = {"id", "refX", "refY", "markerWidth", "markerHeight", "orient", "marker-end", "text-anchor", "role"}
FONTS = {"font-family", "font-size", "font-weight"}
EVIL = (
    '</title><script>alert(1)</script>"><img src=x onerror=alert(1)>',
    '" onload="alert(1)',
    "' onmouseover='alert(1)",
    "]]><!--",
    "&xxe;",
    "\x00\x1b[2J\ufffe\u202egvs",
)


def parsed(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)  # noqa: S314 - our own


def texts(drawn: str) -> list[str]:
    return [each.text or "" for each in parsed(drawn).iter(f"{SVG}text")]


def titles(drawn: str) -> str:
    return "\n".join(each.text or "" for each in parsed(drawn).iter(f"{SVG}title"))


def test_it_shows_who_goes_where_and_why_not_elsewhere() -> None:
    drawn = picture(decided(city()))
    said = " ".join(texts(drawn))
    for words in (
        "ada moved",
        "group faces",
        "user goes from north to east (Q ",
        "face goes from north to east (Q ",
        "west: not trusted: west-org is revoked since height 42: its",  # the line goes on below
        "not trusted",
    ):
        assert words in said, words
    assert "0123456789abcdef" not in said  # ids are for machines
    about = titles(drawn)
    for words in (REVOKED, "north to east: ", "ada to west: 2.0 ms, loss 0.0% (emulated)", "user: north > east, Q "):
        assert words in about, words
    assert drawn.count('marker-end="url(#go)"') == 1  # they go together: one arrow


def test_it_says_what_became_of_the_plan_and_who_stays() -> None:
    failed = replace(decided(city()), outcome=Outcome({FACE: "south is full"}), follows="d0", attempt=2)
    said = " ".join(texts(picture(failed)))
    assert "face did not go: south is full" in said and "attempt 2: it follows decision d0" in said
    drawn = picture(decided(replace(city(), access={})))
    assert "user stays on north" in " ".join(texts(drawn)) and "marker-end" not in drawn


def test_equal_decisions_give_equal_bytes() -> None:
    assert picture(decided(city())) == picture(decided(city()))
    assert picture(decided(crowd(30, 8, 1))) == picture(decided(crowd(30, 8, 1)))
    assert picture(decided(crowd(30, 8, 1))) != picture(decided(crowd(30, 8, 2)))


@pytest.mark.parametrize("evil", EVIL)
def test_no_name_or_reason_becomes_anything_but_text(evil: str) -> None:
    snapshot = city(names=(evil, "north", f"2{evil}", f"3{evil}"), agents=(evil, FACE), user=evil)
    closed = replace(snapshot.hosts[2], closed=evil)
    explained = decided(replace(snapshot, hosts=(*snapshot.hosts[:2], closed, snapshot.hosts[3])), why=evil)
    drawn = picture(replace(explained, remark=evil))
    assert foreign(drawn) == [] and parsed(drawn) is not None
    assert not {each for each in drawn if not each.isprintable() and each != "\n"}


@pytest.mark.parametrize("evil", ["</title><script>alert(1)</script><title>", "</title><a onload='alert(1)'/><title>"])
def test_the_check_for_foreign_parts_finds_what_an_unescaped_name_does(
    monkeypatch: pytest.MonkeyPatch, evil: str
) -> None:
    explained = decided(city(), why=evil)
    assert foreign(picture(explained)) == []
    monkeypatch.setattr(svg, "safe", lambda text: text)
    try:
        found = foreign(picture(explained))
    except ElementTree.ParseError:
        found = ["no XML"]
    assert found


def foreign(drawn: str) -> list[str]:
    """Elements and attributes that pictures do not have."""
    found = []
    for each in parsed(drawn).iter():
        if each.tag.removeprefix(SVG) not in SHAPES:
            found.append(each.tag)
        found += [name for name in each.attrib if name not in LOOKS | PLACES | REST | FONTS]
    return found


@pytest.mark.parametrize(("hosts", "agents"), [(1, 1), (2, 2), (9, 3), (30, 8), (60, 20)])
def test_crowds_are_drawn_too_and_what_is_left_out_is_said(hosts: int, agents: int) -> None:
    drawn = picture(decided(crowd(hosts, agents, 7)))
    for each in parsed(drawn).iter():
        for name in ("x", "y", "cx", "cy"):
            assert math.isfinite(float(each.attrib.get(name, 0)))
    said = " ".join(texts(drawn))
    assert ("hosts more were looked at" in said) == (hosts > MOST_HOSTS)
    assert ("not all lines are drawn" in said) == (hosts > 8)
    assert len(drawn) < 400_000


def test_names_of_hosts_do_not_lie_on_each_other() -> None:
    """As wide as the font makes them, within a tenth: the labels of no two hosts cross."""
    drawn = picture(decided(crowd(30, 8, 3)))
    boxes = []
    for each in parsed(drawn).iter(f"{SVG}text"):
        words = each.text or ""
        if words.startswith("host-") and each.attrib.get("font-weight") == "bold" and ":" not in words:
            wide = len(words) * 13 * svg.WIDE
            x, y = float(each.attrib["x"]), float(each.attrib["y"])
            left = {"start": x, "middle": x - wide / 2, "end": x - wide}[each.attrib["text-anchor"]]
            boxes.append((left, left + wide, y - 11, y))
    assert len(boxes) == 30
    for number, (left, right, top, bottom) in enumerate(boxes):
        for other in boxes[number + 1 :]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top


def test_an_explanation_of_another_version_is_refused_with_words() -> None:
    explained = decided(city())
    broken: tuple[Callable[[], Snapshot], ...] = (
        replace(explained, inputs={"at": 1}).snapshot,
        replace(explained, inputs=explained.inputs | {"moon": 1}).snapshot,
    )
    for read in broken:
        with pytest.raises(Misuse, match="cannot be read by this version"):
            read()


def test_long_words_are_broken_and_nothing_is_lost() -> None:
    assert svg.wrapped("ab " + "x" * 25 + " c", 10) == ["ab", "x" * 10, "x" * 10, "xxxxx c"]
    assert svg.wrapped("", 10) == []
    assert svg.short("abcdef", 4) == "abc\u2026" and svg.short("abcd", 4) == "abcd"
