"""What a broadcaster lets into the mempool, in the order ARC checks it, with ARC's codes.

Format, inputs, outputs, fee and scripts are judged from the transaction and the outputs it spends; a failure there is a
Rejection with a problem code and leaves no trace. What only the network can know comes last and becomes a standing:
parents nobody has (SEEN_IN_ORPHAN_MEMPOOL), a rival in the mempool (DOUBLE_SPEND_ATTEMPTED), a rival in a block (REJECTED).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.devnet.chain import CONTESTED, MINED, ORPHAN, REJECTED, SEEN, STALE, Chain, Standing
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire.arc import Problem
from reconciler.wire.beef import Beef, parse_beef
from reconciler.wire.proof import roots_needed, unlocks
from reconciler.wire.tx import EXTENDED_MARK, MAX_SATOSHIS, Tx, TxOut, parse_extended, parse_tx

# The shortest transaction a node relays; ARC refuses anything below it as malformed.
_LEAST_SIZE = 61
_BEEF_MARKS = (bytes.fromhex("0100beef"), bytes.fromhex("0200beef"), bytes.fromhex("01010101"))


class Rejection(Exception):
    """A broadcaster's no, as the problem object it answers with."""

    def __init__(self, status: int, detail: str, txid: str = "") -> None:
        super().__init__(detail)
        self.problem = Problem(status, detail=detail, txid=txid)


@dataclass(frozen=True, slots=True)
class Checks:
    """Which checks the sender asked to leave out (ARC's X-Skip headers)."""

    fee: bool = True
    scripts: bool = True


def submit(chain: Chain, payload: bytes, checks: Checks = Checks()) -> tuple[str, Standing]:
    """Take raw, extended (BRC-30) or BEEF bytes; (txid, standing), or Rejection. Sending again is harmless."""
    try:
        if payload[:4] in _BEEF_MARKS:
            return _submit_beef(chain, payload, checks)
        if payload[4:10] == EXTENDED_MARK:
            tx, sources = parse_extended(payload)
            return tx.txid, _admit(chain, tx, sources, checks)
        tx = parse_tx(payload)
    except RemoteProtocolError as error:
        raise Rejection(468 if payload[:4] in _BEEF_MARKS else 463, error.message) from error
    return tx.txid, _admit(chain, tx, None, checks)


def subject(payload: bytes) -> Tx:
    """The transaction a submission is about, unjudged; Rejection when it cannot be read."""
    try:
        if payload[:4] in _BEEF_MARKS:
            return parse_beef(payload).tx
        return parse_extended(payload)[0] if payload[4:10] == EXTENDED_MARK else parse_tx(payload)
    except RemoteProtocolError as error:
        raise Rejection(463, error.message) from error


def provoke(chain: Chain, payload: bytes, status: str, detail: str) -> tuple[str, Standing]:
    """Give a transaction a standing it did not earn, unless the network holds it already."""
    tx = subject(payload)
    if chain.live(tx.txid) is not None:
        return tx.txid, chain.state.standings[tx.txid]
    chain.state.txs[tx.txid] = tx
    return tx.txid, chain.set_standing(tx.txid, status, detail=detail)


def _submit_beef(chain: Chain, payload: bytes, checks: Checks) -> tuple[str, Standing]:
    beef = parse_beef(payload)
    for height, root in sorted(roots_needed(beef)):
        if not chain.root_ok(height, root):
            raise Rejection(469, f"the chain has no merkle root {root} at height {height}")
    standing = None
    for txid, entry in beef.txs.items():
        if entry.tx is None or (entry.bump is not None and txid != beef.subject):
            continue
        standing = _admit(chain, entry.tx, _sources(chain, beef, entry.tx), checks)
        if txid == beef.subject:
            return txid, standing
    raise Rejection(468, "the subject of the BEEF is not in it")


def _sources(chain: Chain, beef: Beef, tx: Tx) -> tuple[TxOut, ...]:
    """The outputs a BEEF transaction spends, from the BEEF itself or from what the network knows."""
    found = []
    for entry in tx.inputs:
        held = beef.txs.get(entry.txid)
        parent = held.tx if held is not None and held.tx is not None else chain.live(entry.txid)
        if parent is None:
            raise Rejection(475, f"no proof for the ancestor {entry.txid}", tx.txid)
        if entry.vout >= len(parent.outputs):
            raise Rejection(462, f"{entry.txid} has no output {entry.vout}", tx.txid)
        found.append(parent.outputs[entry.vout])
    return tuple(found)


def _admit(chain: Chain, tx: Tx, sources: Sequence[TxOut] | None, checks: Checks) -> Standing:
    """Judge one transaction; `sources` are the spent outputs as its sender tells them, None for the raw form."""
    known = chain.standing(tx.txid)
    if known is not None and known.status not in (ORPHAN, REJECTED):
        return known
    _check_form(tx)
    outputs = [chain.output(entry.outpoint) for entry in tx.inputs]
    missing = [entry.txid for entry, output in zip(tx.inputs, outputs, strict=True) if output is None]
    if missing and sources is None:
        raise Rejection(460, f"cannot find the outputs of {missing[0]}: send extended format or BEEF", tx.txid)
    # What the sender says of an output counts only while the network does not know better.
    told: Sequence[TxOut | None] = sources or [None] * len(outputs)
    spent = [output or said for output, said in zip(outputs, told, strict=True)]
    _check_spends(chain, tx, [output for output in spent if output is not None], checks)
    if missing:
        chain.state.txs[tx.txid] = tx
        return chain.set_standing(tx.txid, ORPHAN, detail=f"parent {missing[0]} is missing")
    for entry in tx.inputs:
        if not chain.mature(entry.outpoint):
            raise Rejection(462, f"the coinbase {entry.txid} has fewer than 100 blocks on top", tx.txid)
    return _contest(chain, tx) or _enter(chain, tx)


def _check_form(tx: Tx) -> None:
    if tx.size < _LEAST_SIZE:
        raise Rejection(463, f"{tx.size} bytes are fewer than {_LEAST_SIZE}", tx.txid)
    if not tx.inputs or any(entry.txid == "00" * 32 for entry in tx.inputs):
        raise Rejection(462, "there are no inputs, or one claims to be a coinbase", tx.txid)
    if len({entry.outpoint for entry in tx.inputs}) != len(tx.inputs):
        raise Rejection(462, "an output is spent twice by the same transaction", tx.txid)
    if not tx.outputs or sum(output.satoshis for output in tx.outputs) > MAX_SATOSHIS:
        raise Rejection(464, "there are no outputs, or they hold more than exists", tx.txid)


def _check_spends(chain: Chain, tx: Tx, spent: Sequence[TxOut], checks: Checks) -> None:
    paid = sum(output.satoshis for output in spent) - sum(output.satoshis for output in tx.outputs)
    due = chain.rate.fee(tx.size)
    if paid < (due if checks.fee else 0):
        raise Rejection(465, f"the fee is {paid} satoshis, minimum {due}", tx.txid)
    if checks.scripts:
        for index, output in enumerate(spent):
            if not unlocks(tx, index, output):
                raise Rejection(461, f"the script of input {index} does not unlock {tx.inputs[index].outpoint}", tx.txid)


def _contest(chain: Chain, tx: Tx) -> Standing | None:
    """The standing of a transaction that spends what another live one spends; None when there is no rival."""
    found = [chain.spender(entry.outpoint) for entry in tx.inputs]
    rivals = list(dict.fromkeys(spender[0] for spender in found if spender is not None and spender[0] != tx.txid))
    if not rivals:
        return None
    chain.state.txs[tx.txid] = tx
    mined = [txid for txid in rivals if chain.state.standings[txid].status == MINED]
    if mined:
        return chain.set_standing(tx.txid, REJECTED, detail=f"double spend of an input of {mined[0]}", competing=tuple(rivals))
    for txid in rivals:
        held = chain.state.standings[txid]
        competing = tuple(dict.fromkeys((*held.competing, tx.txid)))
        status = held.status if held.status == STALE else CONTESTED
        chain.set_standing(txid, status, block=held.block, height=held.height, competing=competing)
    return chain.set_standing(tx.txid, CONTESTED, detail="double spend attempted", competing=tuple(rivals))


def _enter(chain: Chain, tx: Tx) -> Standing:
    """Into the mempool, with every orphan that was waiting for it."""
    chain.enter(tx)
    standing = chain.set_standing(tx.txid, SEEN)
    waiting = [txid for txid in chain.state.unsettled if chain.state.standings[txid].status == ORPHAN]
    for txid in waiting:
        orphan = chain.state.txs[txid]
        if any(entry.txid == tx.txid for entry in orphan.inputs) and all(chain.output(entry.outpoint) for entry in orphan.inputs):
            try:
                _admit(chain, orphan, None, Checks())
            except Rejection as rejection:
                chain.set_standing(txid, REJECTED, detail=rejection.problem.detail)
    return standing
