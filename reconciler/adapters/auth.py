"""Mutual authentication towards hosts (BRC-103/104): the `Conversation` of our HTTP client.

Theory of operation. Nobody introduces himself unasked: a host hears who we are once it answers 401, or from the first request
on where the Network declares its identity key. One handshake per origin makes a session; from then on every request of ours is
signed and every answer must be, by the same key, or it is not believed, whatever it says. A host that forgot the session (it
says so by an unsigned 401) is met again, once per request. Sessions live in this process only: meeting again is cheap.

A 402 is paid through the purse under a name made of the request itself, so that a request that is repeated because its answer was
lost carries the same transaction again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from reconciler.adapters.certificates import Certificates
from reconciler.adapters.client import httpx
from reconciler.adapters.http import Answer, Http, Paid, Request, host_of, refusal
from reconciler.adapters.purse import Purse
from reconciler.model.errors import LocalProtocolError, Refused, RemoteProtocolError, Unavailable, Uncertain
from reconciler.ports import Entropy
from reconciler.wire import auth, authhttp, jsontext, payment
from reconciler.wire.speaker import Speaker

# Sessions remembered for answers that are still under way after a host was met anew.
_KEPT = 256
_YOURS = f"{authhttp.PREFIX}-your-nonce"
_ID = f"{authhttp.PREFIX}-request-id"


@dataclass(frozen=True, slots=True)
class Session:
    """What a handshake left: the host's key, its session nonce and ours, and the certificates that it wants to see."""

    host: bytes
    theirs: str
    ours: str
    asked: auth.Asked = field(default_factory=auth.Asked)


class Introduced:
    """The conversation of one identity, `speak`, with every host. `speak` gives None while there is no key to speak with."""

    def __init__(
        self,
        http: Http,
        speak: Callable[[], Speaker | None],
        entropy: Entropy,
        purse: Purse | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self._http, self._speak, self._entropy, self._purse = http, speak, entropy, purse
        self._certificates = certificates
        self._sessions: dict[str, Session] = {}
        self._known: OrderedDict[tuple[str, str], Session] = OrderedDict()
        self._meeting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._paying: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._held: dict[str, asyncio.Lock] = {}

    # --- the seam ---------------------------------------------------------------------------------

    async def prepare(self, request: Request) -> Request:
        """The request, signed when the host is known or its key declared; Refused when it shows another key."""
        origin, declared = origin_of(request.url), request.terms.get("identityKey")
        session = self._sessions.get(origin)
        if declared and (session is None or session.host.hex() != declared):
            session = await self._meet(origin, request, session)
            if session is None:
                hint = "make the wallet key, or correct identityKey in the Network"
                raise Refused(
                    "no-mutual-auth", f"cannot use {host_of(request.url)}: it does not prove the key it should have", hint=hint
                )
        speaker = self._speak() if session is not None else None
        return request if session is None or speaker is None else self._signed(request, session, speaker)

    async def forgot(self, request: Request, answer: Answer) -> bool:
        """Whether an unsigned 401 was answered by a handshake, so that the request is worth another try."""
        if authhttp.parse_stamp(answer.headers) is not None:
            return False
        session = self._known.get((origin_of(request.url), request.headers.get(_YOURS, "")))
        return await self._meet(origin_of(request.url), request, session) is not None

    async def accept(self, request: Request, answer: Answer) -> None:
        """RemoteProtocolError unless a signed request got an answer signed by the same host for this very request.

        Once money is on its way such an answer is as good as none: Uncertain.
        """
        if _ID not in request.headers:
            return
        paid = payment.HEADER in request.headers
        try:
            stamp = self._believed(request, answer)
        except RemoteProtocolError as error:
            if paid:
                raise Uncertain(error.code, error.message, hint="the same payment will be shown again") from error
            raise
        if paid and self._purse is not None:
            name = name_of(request, stamp.identity)
            if answer.status // 100 == 2:
                self._purse.taken(name)
            elif _code(answer) in payment.UNTAKEN:
                self._purse.untaken(name)
            self._release(name)

    async def pay(self, request: Request, answer: Answer, limit: int) -> Paid | None:
        """The request with what the 402 asks for, or with what was paid for it before and not acknowledged."""
        stamp = authhttp.parse_stamp(answer.headers)
        if stamp is None or self._purse is None:
            hint = "only hosts that authenticate themselves are paid"
            raise Refused("payment-required", f"cannot pay {host_of(request.url)}: it does not say who it is", hint=hint)
        demand = payment.parse_demand(answer.headers)
        name = name_of(request, stamp.identity)
        # Two equal requests at once are two purchases, one after the other: else the second would show the first one's payment.
        lock = self._paying.setdefault(name, asyncio.Lock())
        await lock.acquire()
        self._held[name] = lock
        try:
            chain, purchase = (str(request.terms.get(term) or "") for term in ("chain", "purchase"))
            paid = self._purse.pay(name, demand, stamp.identity, limit, chain, purchase)
        except BaseException:
            self._release(name)
            raise
        if paid is None:
            self._release(name)
            return None
        satoshis, header = paid
        headers = {**request.headers, payment.HEADER: header}
        return Paid(replace(request, headers=headers), satoshis, lambda: self._release(name))

    async def key_of(self, request: Request) -> str:
        """The key (hex33) that the host of a request proves, which is not sent; "" where it proves none."""
        session = await self._meet(origin_of(request.url), request, None)
        return "" if session is None else session.host.hex()

    # --- sessions ---------------------------------------------------------------------------------

    async def _meet(self, origin: str, wanted: Request, stale: Session | None) -> Session | None:
        """A session with the host that is not the stale one; None when it does not speak this, or we have no key."""
        lock = self._meeting.setdefault(origin, asyncio.Lock())
        async with lock:
            session, speaker = self._sessions.get(origin), self._speak()
            if speaker is None:
                return None
            fresh = session is None or session is stale or session.theirs == (stale.theirs if stale else "")
            if fresh:
                session = await self._handshake(origin, speaker, wanted.stranger)
                if session is None:
                    self._sessions.pop(origin, None)
                    return None
            assert session is not None
            declared = wanted.terms.get("identityKey")
            if declared and session.host.hex() != declared:
                told = f"cannot use {host_of(origin)}: it shows the key {session.host.hex()}, declared is {declared}"
                raise Refused("other-identity", told, hint="find out who that is, or correct identityKey in the Network")
            if fresh and session.asked:
                await self._present(origin, session, speaker, wanted.stranger)
            self._sessions[origin] = self._known[origin, session.theirs] = session
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
            return session

    async def _handshake(self, origin: str, speaker: Speaker, stranger: bool) -> Session | None:
        nonce = speaker.nonce(self._entropy.bytes(auth.SEED_SIZE))
        hello = auth.Message("initialRequest", speaker.identity, nonce, asked=auth.Asked().json())
        headers = {"content-type": "application/json"}
        request = Request("POST", origin + auth.PATH, headers, auth.write_message(hello), stranger=stranger)
        try:
            answer = await self._http.send(request, limit=auth.MAX_MESSAGE)
        except Refused:
            return None  # it sends us elsewhere, or wants us to be known before we can be
        if answer.status >= 500 or answer.status == 429:
            raise refusal(answer, f"introduce ourselves to {host_of(origin)}", self._http.clock)
        if answer.status != 200:
            return None
        said = auth.parse_message(answer.body)
        if said.kind != "initialResponse" or said.your_nonce != nonce:
            raise RemoteProtocolError(f"cannot talk to {host_of(origin)}: it answered another handshake", code="bad-handshake")
        speaker.check(said)
        asked = auth.parse_asked(said.asked) if said.asked is not None else auth.Asked()
        return Session(said.identity, said.initial_nonce, nonce, asked)

    async def _present(self, origin: str, session: Session, speaker: Speaker, stranger: bool) -> None:
        """Show a host what it asked for and may see; that there is nothing to show is an answer, too, and spares a wait.

        A host that does not take it says so again when it is asked for something.
        """
        shown = self._certificates.show(session.asked, speaker, session.host, origin) if self._certificates is not None else ()
        nonce = auth.fresh_nonce(self._entropy.bytes(auth.FRESH_SIZE))
        said = auth.Message(
            "certificateResponse", speaker.identity, session.ours, nonce, session.theirs, certificates=list(shown)
        )
        body = auth.write_message(speaker.seal(said, session.host))
        request = Request("POST", origin + auth.PATH, {"content-type": "application/json"}, body, stranger=stranger)
        with contextlib.suppress(Refused):
            await self._http.send(request, limit=auth.MAX_MESSAGE)

    def _signed(self, request: Request, session: Session, speaker: Speaker) -> Request:
        if not isinstance(request.body, bytes):
            raise LocalProtocolError("no-body", "cannot sign a streamed body", hint="send it outside the conversation")
        headers, body = authhttp.signable_body(request.method, request.headers, request.body)
        target = authhttp.signable_target(httpx.URL(request.url).raw_path.decode("ascii"))
        request_id = self._entropy.bytes(authhttp.REQUEST_ID_SIZE)
        payload = authhttp.request_payload(request_id, request.method, target, headers.items(), body)
        nonce = auth.fresh_nonce(self._entropy.bytes(auth.FRESH_SIZE))
        stamp = speaker.stamp(payload, session.host, nonce, session.theirs)
        return replace(request, headers={**headers, **stamp.headers()}, body=body)

    def _believed(self, request: Request, answer: Answer) -> authhttp.Stamp:
        host, speaker = host_of(request.url), self._speak()
        stamp = authhttp.parse_stamp(answer.headers)
        if stamp is None:
            if answer.status >= 500 or answer.status == 429:
                # A proxy before it, most likely. It says nothing about content either way.
                _raise_trouble(host, answer, payment.HEADER in request.headers)
            raise RemoteProtocolError(f"cannot believe {host}: its answer ({answer.status}) is not signed", code="unsigned")
        session = self._known.get((origin_of(request.url), request.headers[_YOURS]))
        asked = authhttp.parse_stamp({name: request.headers[name] for name in stamp.headers()})
        ways = [
            authhttp.answer_payload(stamp.request_id, answer.status, answer.headers.items(), answer.body, empty)
            for empty in (authhttp.EMPTY if not answer.body else authhttp.EMPTY[:1])
        ]
        if (
            session is None
            or speaker is None
            or asked is None
            or (stamp.identity, stamp.your_nonce, stamp.request_id) != (session.host, session.ours, asked.request_id)
            or not speaker.heard(stamp, ways)
        ):
            raise RemoteProtocolError(
                f"cannot believe {host}: its answer is not signed for us by its own key", code="bad-signature"
            )
        return stamp

    def _release(self, name: str) -> None:
        """Let the next request of the same name be paid for; nothing where that was done."""
        lock = self._held.pop(name, None)
        if lock is not None:
            lock.release()


def _raise_trouble(host: str, answer: Answer, paid: bool) -> None:
    told = f"cannot use {host}: something before it answered {answer.status}"
    if paid:
        raise Uncertain("host-trouble", told, hint="the same payment will be shown again")
    raise Unavailable("host-trouble", told, hint="it will be tried again")


def _code(answer: Answer) -> str:
    """The code of a refusal, where the body has one."""
    try:
        return jsontext.Fields.parse(answer.body, "refusal").text("code", "")
    except RemoteProtocolError:
        return ""


def origin_of(url: str) -> str:
    """Scheme, host and port: what a session is with."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


def name_of(request: Request, payee: bytes) -> str:
    """The purchase a request is: method, address, body and who is paid. Equal requests are the same purchase until it is had."""
    body = request.body if isinstance(request.body, bytes) else b""
    _, body = authhttp.signable_body(request.method, {"content-type": request.headers.get("content-type", "")}, body)
    parts = (request.method.encode(), request.url.encode(), hashlib.sha256(body).digest(), payee)
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
