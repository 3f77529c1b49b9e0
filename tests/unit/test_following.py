"""Which groups a host decides for, by what its agents have in their luggage."""

from types import SimpleNamespace
from typing import Any

from agentplatform.following import groups_concerned, groups_here
from agentplatform.kinds import User
from services.eds.rules import MAX_NAME, Exclusion, Group

FACES = Group("faces", ("a", "b"), (Exclusion(("a", "b")),))


def births(users: str = "", **owners: str) -> Any:
    kind = lambda agent: User("ada") if agent in users else None  # noqa: E731
    return {agent: SimpleNamespace(owner=owner.encode(), kind=kind(agent)) for agent, owner in owners.items()}


def luggage(*groups: Group) -> dict[str, Group | None]:
    """All agents of these groups have it."""
    return {agent: group for group in groups for agent in group.agents}


def test_a_group_is_decided_about_where_its_first_agent_lives() -> None:
    assert groups_here(luggage(FACES) | {"c": None}, births(a="ann", b="ann", c="bob")) == [FACES]
    assert groups_here(luggage(FACES), births(b="ann")) == []
    assert groups_concerned(luggage(FACES), births(b="ann")) == [FACES]


def test_nobody_moves_anothers_agents_by_naming_them() -> None:
    assert groups_concerned(luggage(FACES), births(a="ann", b="bob")) == []


def test_nobody_takes_the_place_of_anothers_group_by_naming_his_own_like_it() -> None:
    evil, second = Group("faces", ("x",)), Group("faces 2", ("y",))
    found = groups_concerned(luggage(FACES, evil, second), births(a="ann", b="ann", x="eve", y="eve"))
    assert found == [FACES, Group("faces 2", ("x",)), Group("faces 2 2", ("y",))]
    long = [Group("n" * MAX_NAME, (agent,)) for agent in "xyz"]
    assert len({group.name for group in groups_concerned(luggage(*long), births(x="x", y="y", z="z"))}) == 3
    assert [group.agents for group in groups_concerned(luggage(Group("u", ("x",))), births("u", u="ann", x="eve"))] == [
        ("x",),
        ("u",),
    ]


def test_a_group_follows_the_user_of_its_user_agent_and_a_user_agent_alone_is_a_group() -> None:
    ann = births("au", a="ann", b="ann", u="ann")
    assert [(group.name, group.user) for group in groups_here(luggage(FACES), ann)] == [("faces", "ada"), ("u", "ada")]
    named = Group("faces", ("a",), user="bob")
    assert groups_here(luggage(named), births("a", a="ann")) == [named]
