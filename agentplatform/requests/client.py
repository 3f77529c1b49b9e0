"""The client, and how each of its requests finds its way."""

import http.client
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from agentplatform.requests import bodies
from agentplatform.requests.connections import Connections, NotSent, Response, origin
from ledger.errors import Misuse, OutcomeUnknown, PeerFault, PlatformError, Unavailable

MAX_FORWARDS = 20  # in a row, of one request
MAX_SECONDS = 300.0  # of one request: what endpoints take, unless their operators have it otherwise
KNOWN = 100.0  # seconds after the first try in which its key is surely known yet: endpoints keep it for 120
PAUSE = 0.02  # seconds before another try, where nothing says how long to wait


class Client:
    """Safe to use from several threads."""

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        token: str | Mapping[str, str] | None = None,
        moving: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        """`endpoints` are addresses such as "http://127.0.0.1:8080", tried in turn when one is gone. `token`: of all of
        them, or by address; it goes to these addresses alone, wherever one of them sends a request on to. `moving`:
        "hold", "forward" or "refuse"; as the endpoint has it, if it is left out. `timeout`: seconds for one request."""
        addresses = [endpoints] if isinstance(endpoints, str) else list(endpoints)
        self._given = list(dict.fromkeys(origin(each) for each in addresses))
        if not self._given:
            raise Misuse("a client needs the address of an endpoint, such as http://127.0.0.1:8080")
        tokens = token if isinstance(token, Mapping) else {address: token for address in self._given if token}
        self._tokens = {origin(address): each for address, each in tokens.items()}
        if not self._tokens.keys() <= set(self._given):
            raise Misuse("a token belongs to an address of this client")
        self.moving, self._timeout = moving, timeout
        self._first = 0  # in `_given`: the one that answered last
        self._incarnations: dict[str, str] = {}
        self._connections = Connections()

    def ask(
        self,
        service: str,
        kind: str,
        body: Any = None,
        *,
        timeout: float | None = None,
        version: str | None = None,
        owner: str | None = None,
    ) -> Any:
        """The answer of the nearest agent that offers the service. `body` is plain data, or bytes.

        Raises Misuse for what was asked wrongly, PeerFault when the agent failed, Unavailable when it was not handled
        within the time, and its kind OutcomeUnknown when nobody can know.
        """
        more = {name: each for name, each in (("version", version), ("owner", owner)) if each is not None}
        return self._ask(f"/services/{quote(service, safe='')}/{quote(kind, safe='')}", more, body, timeout)

    def ask_agent(self, agent: str, kind: str, body: Any = None, *, timeout: float | None = None) -> Any:
        """As `ask`, of the agent of that id or name."""
        return self._ask(f"/agents/{quote(agent, safe='')}/{quote(kind, safe='')}", {}, body, timeout)

    def _ask(self, path: str, query: dict[str, str], body: Any, timeout: float | None) -> Any:
        seconds = self._timeout if timeout is None else timeout
        if not isinstance(seconds, int | float) or not 0 < seconds <= MAX_SECONDS:
            raise Misuse(f"a timeout is a number of seconds above 0, at most {MAX_SECONDS:g}, not {seconds!r:.40}")
        return _Request(self, path, query, *bodies.encoded(body), time.monotonic() + seconds).answer()

    # For its requests

    def turn(self, tried: int) -> str:
        """The address after so many that were tried in vain."""
        return self._given[(self._first + tried) % len(self._given)]

    def worked(self, address: str) -> None:
        if address in self._given:
            self._first = self._given.index(address)

    def may_follow(self, source: str, to: str) -> bool:
        """An address that was given may send requests anywhere, one that was only named to a given one alone."""
        return source in self._given or to in self._given

    def send(
        self, address: str, method: str, path: str, body: bytes | None, headers: dict[str, str], until: float
    ) -> Response:
        """As Connections.send, with the token, if the address has one."""
        if address in self._tokens:
            headers = {**headers, "Authorization": f"Bearer {self._tokens[address]}"}
        response = self._connections.send(address, method, path, body, headers, until)
        if (incarnation := response.headers.get("Incarnation")) is not None:
            self._incarnations[address] = incarnation
        return response

    def incarnation(self, address: str, until: float) -> str:
        """Which life of the endpoint is talked to; "" for one that does not say. Raises NotSent."""
        if address not in self._incarnations:
            try:
                self.send(address, "GET", "/healthz", None, {}, until)
            except (OSError, http.client.HTTPException) as error:
                raise NotSent(f"{address} does not answer: {error}") from None
        return self._incarnations.get(address, "")


class _Request:
    """One request on its way through the endpoints. It is at one of them at a time, and leaves it for another only when
    it surely was not handled there."""

    def __init__(self, client: Client, path: str, query: dict[str, str], kind: str, body: bytes, until: float) -> None:
        self._client, self._path, self._query = client, path, query
        self._kind, self._body, self._until = kind, body, until
        self._keys: dict[str, str] = {}  # by address
        self._at, self._tried, self._forwards = client.turn(0), 0, 0
        self._agent = ""  # its id, when an endpoint has said it
        self._incarnation = ""  # of the endpoint there
        self._unsure = ""  # why it may have been handled there, if it may
        self._known = 0.0  # until when it may be repeated there then
        self._last = "nothing answered"

    def answer(self) -> Any:
        while self._left() > 0 and not (self._unsure and time.monotonic() > self._known):
            try:
                response = self._send()
            except NotSent as error:
                self._not_sent(error)
            except (OSError, http.client.HTTPException) as error:
                self._unsure = f"{self._at} broke off the request: {error or type(error).__name__}"
                if not self._incarnation:
                    break
                self._wait(PAUSE)
            else:
                if response.status == 200:
                    self._client.worked(self._at)
                    return bodies.decoded(self._at, response)
                self._heard(response)
        if self._unsure:
            raise OutcomeUnknown(f"{self._unsure}; it has not said more in time")
        raise Unavailable(f"no answer in time: {self._last}", retry_after=1.0)

    def _send(self) -> Response:
        if not self._unsure:
            self._incarnation = self._client.incarnation(self._at, self._until)
            self._known = time.monotonic() + KNOWN
        said = self._query | {"timeout": f"{max(0.001, self._left()):.3f}"}
        if self._client.moving is not None:
            said["moving"] = self._client.moving
        headers = {
            "Content-Type": self._kind,
            "Accept": bodies.ACCEPT,
            "Idempotency-Key": self._keys.setdefault(self._at, secrets.token_hex(16)),
        }
        if self._incarnation:
            headers["Incarnation"] = self._incarnation
        return self._client.send(self._at, "POST", f"{self._path}?{urlencode(said)}", self._body, headers, self._until)

    def _not_sent(self, error: NotSent) -> None:
        self._last = str(error)
        if self._unsure and error.gone:
            raise OutcomeUnknown(f"{self._unsure}; {error}") from None
        if not self._unsure:
            self._tried += 1
            self._at = self._client.turn(self._tried)
        self._wait(PAUSE)

    def _heard(self, response: Response) -> None:
        """It goes on, or ends with an error."""
        if response.status == 307:
            self._follow(response.headers.get("Location", ""))
        elif response.status == 503:
            # If an earlier try broke off, that may still be under way: it stays unsure, and at this endpoint.
            self._last, seconds = bodies.refusal(response)
            self._forwards = 0
            self._wait(seconds)
        elif response.status == 409 and not self._unsure:
            self._last = "the endpoint was started again"  # nothing was asked, and now its incarnation is known
            self._wait(PAUSE)
        else:
            raise self._error(response)

    def _follow(self, location: str) -> None:
        """It was not handled here, whatever broke off before: the endpoint knows its key."""
        try:
            to = origin(location, whole=False)
        except Misuse:
            raise PeerFault(self._at, f"sends requests on to {location!r:.80}, which is no address") from None
        if not self._client.may_follow(self._at, to):
            raise PeerFault(self._at, f"sends requests on to {to}, and neither was given to this client")
        path = urlsplit(location).path
        agent = self._same(path)
        self._forwards += 1
        if self._forwards > MAX_FORWARDS:
            raise Unavailable(f"the request was sent on {MAX_FORWARDS} times in a row", retry_after=1.0)
        if self._forwards > 2:  # hosts that send it to and fro wait for news of each other
            self._wait(PAUSE)
        self._at, self._path, self._agent, self._unsure, self._query = to, path, agent, "", {}
        self._last = "it was sent on"

    def _same(self, path: str) -> str:
        """The agent that a request is sent on to. Raises PeerFault where that makes it another request: one that was
        only named would have things done by the token of one that was given."""
        _, target, agent, kind = [unquote(part) for part in path.split("/")] if path.count("/") == 3 else ("",) * 4
        if target != "agents" or kind != unquote(self._path.split("/")[3]) or agent != (self._agent or agent):
            raise PeerFault(self._at, f"sends {self._path} on as {path!r:.80}, which is another request")
        return agent

    def _error(self, response: Response) -> PlatformError:
        said = bodies.said(response)
        message = f"{self._at} says {response.status}: {said.get('message', 'nothing more')}"
        if response.status in (409, 500, 504):
            return OutcomeUnknown(f"{self._unsure}; {message}" if self._unsure else message)
        if said.get("error") == "PeerFault":
            return PeerFault(self._at, str(said.get("message")))
        return Misuse(message)

    def _left(self) -> float:
        return self._until - time.monotonic()

    def _wait(self, seconds: float) -> None:
        time.sleep(max(0.0, min(seconds, self._left())))
