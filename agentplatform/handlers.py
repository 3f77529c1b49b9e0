"""Typed handlers: methods that answer messages of one kind, with the body converted to their parameters.

    class Counter(Agent):
        @handles("add")
        def add(self, amount: int) -> int:
            self.value += amount
            return self.value

A parameter called `message` gets the Message. One other parameter takes the whole body; of several, each takes the
field of its name from a body that is a dictionary. Annotations are what msgspec converts to: numbers, texts, bytes,
lists, dictionaries, dataclasses, `msgspec.Struct`, `datetime`, with limits by `Annotated[int, msgspec.Meta(ge=0)]`.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from ledger.errors import Misuse

F = TypeVar("F", bound=Callable[..., Any])
MAX_KNOWN = 4096  # methods whose parameters are remembered
_MARK = "__handles__"
_REQUIRED = inspect.Parameter.empty


def handles(kind: str) -> Callable[[F], F]:
    """Marks the method that answers messages of `kind`. A subclass may override it, under the same name without the
    mark, or another method with it."""
    if not isinstance(kind, str) or not kind:
        raise Misuse(
            f"write @handles with the kind of message that the method answers: @handles('add'), not {kind!r:.60}"
        )

    def mark(method: F) -> F:
        setattr(method, _MARK, kind)
        return method

    return mark


def found_in(cls: type) -> dict[str, str]:
    """Which method of `cls` answers which kind. Raises Misuse when two of one class answer the same."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        own: dict[str, str] = {}
        for name, member in vars(base).items():
            kind = getattr(member, _MARK, None) if inspect.isfunction(member) else None
            if kind in own:
                raise Misuse(f"{cls.__name__}: both {own[kind]} and {name} handle {kind!r}; one of them is enough")
            if kind is not None:
                own[kind] = name
        found = {kind: name for kind, name in found.items() if name not in own.values()} | own
    return {kind: name for kind, name in found.items() if callable(getattr(cls, name, None))}


def dispatch(agent: Any, handlers: Mapping[str, str], message: Any) -> Any:
    """What the handler of the message returns: an awaitable when it is async. Raises Misuse for a kind that no method
    answers, naming those that there are, and for a body that does not fit, naming the field."""
    cls = type(agent).__name__
    name = handlers.get(message.kind)
    if name is None and not handlers:
        raise Misuse(f"{cls} has no handle_message, so it cannot answer {message.kind!r}")
    if name is None:
        raise Misuse(f"{cls} does not know {message.kind!r}; it answers {', '.join(sorted(handlers))}")
    method = getattr(agent, name)
    plan = _plan(method.__func__)
    arguments = plan.arguments(message.kind, message.body)
    return method(**arguments, message=message) if plan.wants_message else method(**arguments)


class _Plan:
    """What one method wants to be called with."""

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError as error:
            raise Misuse(f"{function.__qualname__}: its annotations cannot be read: {error}") from None
        _, *parameters = inspect.signature(function).parameters.values()
        if any(each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY) for each in parameters):
            raise Misuse(
                f"{function.__qualname__} handles messages, so its parameters have names: no *args, no **kwargs"
            )
        self.wants_message = any(each.name == "message" for each in parameters)
        self._fields = {each.name: hints.get(each.name, Any) for each in parameters if each.name != "message"}
        self._name = function.__qualname__
        defaults = {each.name: each.default for each in parameters if each.default is not _REQUIRED}
        self._default = defaults.get(next(iter(self._fields), ""), _REQUIRED)
        self._whole: Any = None
        if len(self._fields) > 1:
            fields = [
                (name, kind, defaults[name]) if name in defaults else (name, kind)
                for name, kind in self._fields.items()
            ]
            self._whole = msgspec.defstruct("Body", fields, kw_only=True, forbid_unknown_fields=True)

    def arguments(self, kind: str, body: Any) -> dict[str, Any]:
        if not self._fields:
            if body is not None and not self.wants_message:
                raise Misuse(f"{kind!r} takes no body: {self._name} has no parameter for one")
            return {}
        try:
            if self._whole is not None:
                # Nothing at all is no field: fine where all have defaults.
                return dict(msgspec.structs.asdict(msgspec.convert({} if body is None else body, self._whole)))
            ((name, wanted),) = self._fields.items()
            if body is None and self._default is not _REQUIRED:
                return {}
            return {name: msgspec.convert(body, wanted)}
        except msgspec.ValidationError as error:
            raise Misuse(f"the body of {kind!r} does not fit {self._name}({self._wanted()}): {error}") from None

    def _wanted(self) -> str:
        return ", ".join(
            f"{name}: {kind.__name__ if isinstance(kind, type) else kind}" for name, kind in self._fields.items()
        ).replace("typing.", "")


@lru_cache(MAX_KNOWN)
def _plan(function: Callable[..., Any]) -> _Plan:
    return _Plan(function)
