"""What the EDS may do at most. Pure."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pause: float = 0.25  # seconds from the end of a decision about a group to the next one
    attempts: int = 3  # plans that are carried out for one event, when moves fail
    keep: int = 50  # newest decisions about an agent that are kept

    def __post_init__(self) -> None:
        if not 0.0 <= self.pause <= 3600.0:  # also true for NaN
            raise ValueError(f"the pause is {self.pause}; it is 0 to 3600 seconds")
        if not 1 <= self.attempts <= 10 or not 1 <= self.keep <= 1000:
            raise ValueError("there are 1 to 10 attempts, and 1 to 1000 decisions about an agent are kept")
