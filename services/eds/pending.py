"""Groups that wait for a decision, and what has set it off. Pure, and bounded whatever happens."""

from collections.abc import Iterable, Mapping

from services.eds.rules import Group

MAX_REASONS = 8  # that are remembered of one group, and told of one decision
MAX_REASON = 200  # characters
MAX_AGENTS = 256  # decided about together; one group is never cut, the groups that follow come next


class Pending:
    def __init__(self) -> None:
        self._reasons: dict[str, Reasons] = {}  # by group, the one that waits longest first

    def __len__(self) -> int:
        return len(self._reasons)

    def mark(self, group: str, why: str) -> None:
        self._reasons.setdefault(group, Reasons()).add(why)

    def batch(self, groups: Iterable[Group], busy: Mapping[str, Group]) -> tuple[tuple[Group, ...], str]:
        """The groups to decide about now, and why; none when no group waits, or all that do are `busy`.

        Their marks are gone then; so are those of groups that are not among `groups` any more. No agent is in two of
        them, nor in one that is busy: a group that shares one waits.
        """
        here = {group.name: group for group in groups}
        self._reasons = {name: reasons for name, reasons in self._reasons.items() if name in here}
        taken = {agent for group in busy.values() for agent in group.agents}
        found: list[Group] = []
        count = 0
        for group in (here[name] for name in self._reasons):
            if group.name in busy or not taken.isdisjoint(group.agents):
                continue
            if found and count + len(group.agents) > MAX_AGENTS:
                break
            found.append(group)
            taken.update(group.agents)
            count += len(group.agents)
        why = Reasons()
        for group in found:
            why.join(self._reasons.pop(group.name))
        return tuple(found), str(why)


class Reasons:
    """The first few, each once, and how many more there were."""

    def __init__(self) -> None:
        self._reasons: dict[str, None] = {}
        self._more = 0

    def add(self, why: str) -> None:
        why = why[:MAX_REASON]
        if len(self._reasons) < MAX_REASONS:
            self._reasons[why] = None
        elif why not in self._reasons:
            self._more += 1

    def join(self, other: "Reasons") -> None:
        for why in other._reasons:
            self.add(why)
        self._more += other._more

    def __str__(self) -> str:
        return "; ".join(self._reasons) + (f"; and {self._more} more" if self._more else "")
