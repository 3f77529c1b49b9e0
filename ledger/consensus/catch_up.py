"""Whom to ask for the blocks that a replica lacks, and when; whom to answer. Pure.

A claim to be higher is only a reason to ask: whoever claims and does not deliver costs one request in turn.
"""


class CatchUp:
    def __init__(self, patience: float) -> None:
        self._patience = patience  # seconds that a peer has to answer before the next one is asked
        self._claims: dict[str, int] = {}  # host -> the height that it says it has
        self._asked = ""  # the host that was asked last
        self._answered = True  # it sent blocks since, or nobody was asked
        self._answer_by = 0.0
        self._served: dict[str, tuple[int, float]] = {}  # host -> what it asked for last, and when
        self._shown: dict[str, tuple[tuple[int, bool], float]] = {}  # host -> the view it was shown last, and when
        self.at: float | None = None  # when to ask next; None: nobody claims to be higher

    def heard(self, host: str, height: int, best: int, at: float) -> None:
        """`host` says that it is at `height`. If that is above `best`, ask at time `at`, unless an answer is due."""
        self._claims[host] = height
        if height > best:
            at = max(at, self._answer_by)
            self.at = at if self.at is None else min(self.at, at)

    def answered(self, host: str, best: int, now: float, useful: bool) -> None:
        """`host` sent blocks, which brought us to `best`. One that sent nothing useful has to claim again."""
        if not useful:
            self._claims.pop(host, None)
        self._answered = True
        self._answer_by = now
        self.at = now if self._higher(best) else None

    def ask(self, best: int, now: float) -> str | None:
        """Whom to ask now, in turn; None when nobody (else) claims to be above `best`."""
        if not self._answered:
            self._claims.pop(self._asked, None)  # its claim was empty, or the answer is lost: it will claim again
        self._answered = True
        higher = self._higher(best)
        if not higher:
            self.at = None
            return None
        self._asked = next((host for host in higher if host > self._asked), higher[0])
        self._answered = False
        self.at = self._answer_by = now + self._patience
        return self._asked

    def may_serve(self, host: str, first: int, now: float) -> bool:
        """Whether to answer `host`, which asks for blocks from `first` on: the same again not at once."""
        before, at = self._served.get(host, (0, 0.0))
        if first <= before and now < at + self._patience / 2:
            return False
        self._served[host] = (first, now)
        return True

    def may_show(self, host: str, view: tuple[int, bool], now: float) -> bool:
        """Whether to show `host` the view that we are in, which costs more than to ask: the same again not at once."""
        before, at = self._shown.get(host, (None, 0.0))
        if before == view and now < at + self._patience / 2:
            return False
        self._shown[host] = (view, now)
        return True

    def _higher(self, best: int) -> list[str]:
        return sorted(host for host, height in self._claims.items() if height > best)
