"""Reference pages that the code knows: verbs, errors, metrics, conditions, guards, tables. Used by docs/generate.py."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from reconciler.adapters.sql import catalog, trade_tables
from reconciler.cli import main
from reconciler.cli.exits import code_of
from reconciler.cli.main import _TERRAFORM
from reconciler.gateway.measure import DRIFTS, STATIONS
from reconciler.manifest.fault import CODES
from reconciler.model import errors
from reconciler.model.change import Reason
from reconciler.planner import guard
from reconciler.telemetry import BOUND, Metrics

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "reconciler"


def code_pages() -> dict[str, str]:
    """Every page by its file name below docs/reference, without the line that says who wrote it."""
    return {
        "cli.md": cli_page(),
        "errors.md": errors_page(),
        "metrics.md": metrics_page(),
        "conditions.md": conditions_page(),
        "catalog.md": catalog_page(),
    }


def cell(text: str) -> str:
    """Text that Markdown leaves alone inside a table."""
    for mark in ("|", "<", ">", "*"):
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())


def code(text: str) -> str:
    """Text as code inside a table, where only the bar has a meaning."""
    return "`" + " ".join(text.split()).replace("|", "\\|") + "`"


def doc(thing: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


# --- verbs ---------------------------------------------------------------------------------------


def program() -> Any:
    """The whole command line, every verb bound."""
    return typer.main.get_command(main.bind())


def verbs(command: Any = None, above: str = "") -> Iterator[tuple[str, Any]]:
    """(words, command) of every visible verb that does something, in the order of `--help`; families before their verbs."""
    for name, inner in (command or program()).commands.items():
        if inner.hidden:
            continue
        yield f"{above}{name}", inner
        if hasattr(inner, "commands"):
            yield from verbs(inner, f"{above}{name} ")


def parameters(command: Any, words: str) -> list[tuple[str, str]]:
    """(how it is written, what it means) of every argument and option but --help."""
    context = typer.Context(command, info_name=words, terminal_width=200)
    records = [one.get_help_record(context) for one in command.params if not getattr(one, "hidden", False)]
    return [record for record in records if record is not None]


def verb_section(words: str, command: Any) -> str:
    """One verb: what it does, how it is called, what it takes."""
    level = "###" if " " in words else "##"
    text = f"{level} `{words}`\n\n{' '.join((command.help or '').split())}\n"
    if hasattr(command, "commands"):
        return text
    usage = " ".join([piece for piece in command.collect_usage_pieces(typer.Context(command, info_name=words)) if piece])
    text += f"\n```text\nreconciler {words} {usage}\n```\n"
    taken = [(code(written), cell(meaning)) for written, meaning in parameters(command, words)]
    return text + (f"\n{table(('argument or option', 'meaning'), taken)}" if taken else "")


def cli_page() -> str:
    """Every verb with its arguments, options, defaults and help."""
    whole = program()
    index = [(f"[`{words}`](#{words.replace(' ', '-')})", cell(command.help)) for words, command in verbs() if " " not in words]
    flags = [(code(written), cell(meaning)) for written, meaning in parameters(whole, "reconciler")]
    flags = [flag for flag in flags if "completion" not in flag[0]]
    aliases = ", ".join(f"`{short}`" for short in _TERRAFORM)
    return (
        f"# The command line\n\n{whole.help}\n\nData goes to standard output, everything else to standard error. "
        "Every verb ends with one of the "
        "[exit codes](exit-codes.md); what an error means stands in [errors](errors.md).\n\n"
        f"{table(('verb', 'what it does'), index)}\n"
        f"## Before the verb\n\n{table(('flag', 'meaning'), flags)}\n"
        f"Terraform's spellings are understood, too: {aliases}. "
        "`NO_COLOR`, `RECONCILER_STATE`, `RECONCILER_SOURCE`, `RECONCILER_ENV`, "
        "`RECONCILER_MODE`, `RECONCILER_LISTEN` and `MAX_REVENUE_SPLITS` are read from the environment; "
        "a flag wins over them, and they win over "
        "[`reconciler.yaml`](settings.md).\n\n"
    ) + "\n".join(verb_section(words, command) for words, command in verbs())


# --- errors --------------------------------------------------------------------------------------


def raised() -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Class of exception -> code -> [(message, hint)] as they stand in the code; `…` where a value is filled in."""
    classes = {name for name, thing in vars(errors).items() if inspect.isclass(thing)}
    found: dict[str, dict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in classes:
                continue
            words = {word.arg: word.value for word in node.keywords}
            if node.func.id == "RemoteProtocolError":
                code, message = words.get("code"), node.args[0] if node.args else None
            else:
                code, message = (*node.args, None, None)[:2]
            if isinstance(code, ast.Constant) and isinstance(code.value, str):
                pair = (said(message), said(words.get("hint")))
                if pair not in found[node.func.id][code.value]:
                    found[node.func.id][code.value].append(pair)
    return found


def said(node: ast.expr | None) -> str:
    """A message as it stands in the code, values as `…`."""
    if isinstance(node, ast.JoinedStr):
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        return re.sub(r"…(?:…)+", "…", text)
    return str(node.value) if isinstance(node, ast.Constant) and node.value is not None else ""


def errors_page() -> str:
    """Diagnostics of manifests, and the exceptions with what becomes of them."""
    kinds = [errors.Refused, errors.LocalProtocolError, errors.RemoteProtocolError, errors.GuardRefused, errors.Unavailable,
             errors.Uncertain, errors.Conflict, errors.Locked, errors.Invariant]  # fmt: skip
    rows = [(f"[`{one.__name__}`](#{one.__name__.lower()})", cell(doc(one)), str(code_of(one.__new__(one)))) for one in kinds]
    page = (
        '# Errors\n\nEvery error carries a code that stays, a sentence that begins with "cannot", and where possible a hint. '
        "Scripts may rely on the codes, not on the sentences.\n\n## In manifests\n\n"
        "`validate` reports all of them at once, with file, line and column; E is an error, W a warning. "
        "A file with an error is never acted upon: the last good revision stands.\n\n"
        f"{table(('code', 'what is wrong'), [(code, cell(text)) for code, text in CODES.items()])}\n"
        "## While running\n\nWhat kind of error it is decides what happens next. "
        "The exit code is that of a command that ended with it; "
        "a change that failed among others makes `apply` end with 3 ([exit codes](exit-codes.md)).\n\n"
        f"{table(('class', 'means', 'exit code'), rows)}"
    )
    by_class = raised()
    for one in kinds:
        codes = sorted(by_class.get(one.__name__, {}).items())
        lines = [(f"`{code}`", joined(m for m, _ in pairs), joined(h for _, h in pairs)) for code, pairs in codes]
        page += f"\n### `{one.__name__}`\n\n"
        page += table(("code", "message", "hint"), lines) if lines else "Raised by decoders, always with the same code.\n"
    return page


def joined(texts: Iterable[str]) -> str:
    """Different texts side by side."""
    return cell(" · ".join(dict.fromkeys(text for text in texts if text)))


# --- metrics -------------------------------------------------------------------------------------


def metrics_page() -> str:
    """The series of /metrics, from a registry as the daemon makes it."""
    metrics, rows = Metrics(), []
    for one in vars(metrics).values():
        if one is metrics.registry:
            continue
        (family,) = one.describe()
        shown = family.name + ("_total" if family.type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in one._labelnames) or "none"
        rows.append((f"`{shown}`", family.type, labels, cell(family.documentation)))
    return (
        "# Metrics and logs\n\n`reconciler run` listens on `listen` of [`reconciler.yaml`](settings.md), "
        "`127.0.0.1:8401` unless told otherwise. "
        "It asks for no credentials: keep it on loopback.\n\n"
        + table(
            ("path", "answers"),
            [
                ("`GET /metrics`", "Prometheus text format 0.0.4"),
                ("`GET /health`", "200 while the workers turn"),
                ("`GET /readyz`", "200 once a plan was made from a good revision, 503 with the reason until then"),
                ("`GET /control/state`", "mode, source, last plan and guards, as JSON"),
                ("`POST /control/reconcile`", '`{}` or `{"key": "Dataset/x"}`: look now; `reconciler reconcile` does the same'),
            ],
        )
        + f"\n## Series\n\n{table(('name', 'type', 'labels', 'meaning'), rows)}\n"
        "Labels take their values from closed sets. "
        "In the two `reconcile` series `kind` is the sort of work (`plan`, `look`, `run`, `confirm`) and `result` "
        "is `done`, `later` or `error`; elsewhere `kind` is a kind of resource, and `verb` one of a plan. "
        + "`class` of drift is "
        + either(DRIFTS)
        + "; `state` of an open run is how far it came, "
        + either(STATIONS)
        + ", and from `sent` on money may be on its way. `type` and `status` are those of a [condition](conditions.md), "
        "`host` is one of a Network, `sink` one of `notify`.\n\n"
        "## Logs\n\nOne JSON object a line on standard error: `time`, `level`, `event`, and of these fields those that apply: "
        + ", ".join(f"`{name}`" for name in BOUND)
        + ". Anything else is dropped, so a secret cannot wander in. On a terminal the same is written for people.\n"
    )


def either(words: Sequence[str]) -> str:
    """Words as code, the last one after `or`."""
    *first, last = [f"`{word}`" for word in words]
    return f"{', '.join(first)} or {last}"


# --- conditions, reasons, guards -----------------------------------------------------------------

# type -> (when it is there, [(status, reason, meaning)]). A test holds it against the code.
CONDITIONS: Mapping[str, tuple[str, Sequence[tuple[str, str, str]]]] = {
    "Ready": ("always", [
        ("True", "Registered", "an Identity: the last apply went through"),
        ("True", "Published", "a Dataset: files and document are on their hosts, the token is made"),
        ("True", "Advertised", "an Advertisement: its tokens are made"),
        ("True", "Recorded", "a Network or PricePlan: there is nothing outside, the record is all"),
        ("True", "Admitted", "it was NotAdmitted, and every host lists it by now"),
        ("False", "NotAdmitted", "too few overlay hosts took the tokens; the message says what they answered"),
        ("False", "Hidden", "a host answers, but lists no token after five tries: tried ever more rarely, from an hour to a day"),
        ("False", "Contested", "its transaction was accepted and is refused now; nothing is built on it until that is settled"),
        ("False", "DoubleSpent", "another transaction took its coin, six blocks deep; the next plan makes it anew"),
        ("False", "*code*", "the last change was refused for good; the reason is the [code of the error](errors.md)"),
        ("Unknown", "Gone", "in [notices](../how-to/notifications.md) only: it was retired, or is no longer looked after"),
    ]),
    "Confirmed": ("for what has transactions", [
        ("False", "Seen", "a broadcaster has the transaction, no block that we know of"),
        ("True", "Mined", "in a block of the longest chain, proof verified; taken back when a reorganisation takes it back"),
        ("False", "Contested", "as of Ready"),
        ("False", "DoubleSpent", "as of Ready"),
    ]),
    "Drifted": ("always", [
        ("False", "InSync", "the last look found what the record says"),
        ("True", "Drifted", "the world left the record; the message names what"),
        ("True", "Hidden", "as of Ready: nothing else is missing, and it is left alone until the next try is due"),
    ]),
    "HeadersAgree": ("for a Network with several header sources", [
        ("True", "Agreed", "they name one block, or work has decided between them"),
        ("False", "SourcesDisagree", "they name different blocks and none is six ahead; what needs such a header waits"),
        ("Unknown", "SourcesSilent", "half of them or more do not answer; what needs a header waits"),
    ]),
    "ReadOnly": ("for a Network once it was true", [
        ("True", "CoinSpentElsewhere", "a coin went by a transaction the ledger does not know: a person decides what next"),
        ("False", "Newest", "that is settled"),
    ]),
    "Funded": ("for a Network with `wallet.minBalance`", [
        ("True", "Sufficient", "the purse holds that much; coins in open runs and change on its way count"),
        ("False", "LowBalance", "it holds less: everything still works, and somebody should pay in"),
        ("True", "NoMinimum", "there was a minimum once"),
    ]),
    "Reconciling": ("only while true", [
        ("True", "Waiting", "not an error: something has to come first, such as a block"),
        ("True", "*code*", "no answer; it is tried again later"),
    ]),
    "Rotating": ("for an Identity whose key was replaced", [
        ("True", "Window", "an old key is honoured beside the new one; the message says until when"),
        ("False", "Retired", "only the present key is honoured"),
    ]),
    "Compromised": ("for an Identity whose key was replaced", [
        ("True", "Revoked", "the key before the present one is not to be trusted; the message says why"),
        ("False", "Trusted", "it was replaced in the ordinary way"),
    ]),
    "KeySuccession": ("never: in [notices](../how-to/rotate-a-key.md#who-is-told) only, where `rotation.notify` asks for it", [
        ("True", "Announced", "both keys signed that one follows the other"),
        ("True", "Changed", "they signed it anew: another window, or more about a revocation"),
        ("True", "Revoked", "the old key is not to be trusted; an error, where the others are warnings"),
        ("True", "Ended", "the old key is honoured no longer"),
    ]),
    "Stalled": ("only while true", [
        ("True", "*code*", "refused for good; tried again when the manifest changes, or by `reconcile`"),
        ("True", "kind-failed", "a fault of the program, named; others go on. What had signed stays open: see `journal list`"),
        ("True", "Contested", "as of Ready; `journal resolve` shows the ways out"),
        ("True", "DoubleSpent", "as of Ready"),
    ]),
}  # fmt: skip

REASONS: Mapping[str, str] = {
    "NEW": "declared, not recorded, and not there",
    "SPEC_CHANGED": "the manifest or a file moved",
    "REQUIREMENT_CHANGED": "something that it builds on changes, so its document does too",
    "DRIFTED": "the world left the record",
    "EXPIRING": "copies are paid for until soon, and are prolonged; or a replaced key is honoured no longer, and is retired",
    "LOST": "recorded, and proven to be gone: it is made again",
    "MOVED": "it has another name: its record is carried over, and published again where the old name is told; others wait",
    "REMOVED": "no longer declared",
    "ALREADY_GONE": "no longer declared, and proven to be gone: only the record goes",
    "IN_SYNC": "nothing to do",
    "UNKNOWN": "nobody could say whether it is there; nothing is done on a doubt",
    "UNMANAGED": "it is there, though this ledger did not make it; nothing is done to it",
    "SUSPENDED": "`lifecycle.suspend` is set",
    "FROZEN": "a run that began is not settled; it goes first",
}

GUARDS: Mapping[str, str] = {
    "EMPTY_SOURCE": "nothing is declared though something is recorded: a wrong directory far more often than a wish",
    "MAINNET": "it pays on chain main and `guards.mainnet` is not true",
    "PROTECTED": "a resource with `deletionPolicy: Protect` or `prune: never` would go",
    "DELETES": "more would be retired than `guards.deletes` allows",
    "CHANGES": "more would be changed than `guards.changes` allows",
    "SPEND_RUN": "the plan costs more than `guards.spend.run`",
    "SPEND_DAY": "with it the UTC day costs more than `guards.spend.day`, open runs and what they set aside included",
    "SPEND_KIND": "as `spend-day`, for the kind NAME and `guards.spend.kinds`",
    "MAX_SPEND": "a resource costs more than its own `lifecycle.maxSpend`",
    "FUNDS": "the purse lacks coins; no approval lets it pass",
    "POLICY": "the plan matches the policy NAME; no approval lets it pass when the policy's action is `deny`",
    "APPROVALS": "fewer people have signed the plan than `approvals` asks for; passes by signature only",
}


def words_of(enum: type[Enum], meanings: Mapping[str, str]) -> list[tuple[str, str]]:
    """Every member by its value; a member without a meaning is a fault."""
    return [(f"`{member.value}`", meanings[member.name]) for member in enum]


def conditions_page() -> str:
    """What a status says, why a plan wants something, what may hold it up."""
    page = (
        "# Conditions, reasons and guards\n\n## Conditions\n\n`status` shows Ready, "
        "`describe` and `get -o yaml` show all of them. "
        "`lastTransitionTime` moves when the status does, not when the message does.\n"
    )
    for type_, (when, said) in CONDITIONS.items():
        page += f"\n### {type_}\n\nThere {when}.\n\n"
        page += table(
            ("status", "reason", "means"), [(status, word if "*" in word else f"`{word}`", text) for status, word, text in said]
        )
    names = {name: getattr(guard, name) for name in GUARDS}
    guards = [(f"`{names[name]}{'NAME' * names[name].endswith(':')}`", text) for name, text in GUARDS.items()]
    return (
        page
        + "\n## Reasons of a change\n\n`plan -o json` gives one for every change.\n\n"
        + table(("reason", "means"), words_of(Reason, REASONS))
        + "\n## Guards\n\nA guard judges the whole plan; a plan that one refuses does nothing (exit code 4). "
        + "`apply --approve GUARD` lets it pass for that one plan, unless it passes by signature only "
        + "([have plans approved](../how-to/approve-plans.md)). They refuse in this order.\n\n"
        + table(("guard", "refuses when"), guards)
    )


# --- catalog -------------------------------------------------------------------------------------


def catalog_page() -> str:
    """The tables that people may query."""
    page = (
        "# The catalog\n\nTables for your own questions, in the database of the ledger "
        "(`.state/ledger.db` unless told otherwise). "
        "They are written in "
        "the same transaction as the record they show, so the two never disagree. Read them, do not write them; times are "
        "UTC, amounts are satoshis. How to ask: [query the catalog](../how-to/query-the-catalog.md).\n"
    )
    for model in (catalog.ProducerIdentity, catalog.ProducerAdvertisement, catalog.PublishedContent, catalog.PublishedContentTag,
                  catalog.ContentDistribution, trade_tables.ProducerRevenue, trade_tables.ProducerConsumer):  # fmt: skip
        made = model.__table__
        columns = [(f"`{column.name}`", kind_of(column), "no" if column.nullable is False else "yes", notes_of(column))
                   for column in made.columns]  # fmt: skip
        page += f"\n## `{made.name}`\n\n{doc(model)}\n\n{table(('column', 'type', 'may be null', ''), columns)}"
    return page


def kind_of(column: Any) -> str:
    """The type of a column in plain words."""
    name = type(column.type).__name__
    return {
        "JSON": "JSON", "UtcTime": "time", "AutoString": "text", "Text": "text", "String": "text",
        "Integer": "integer", "BigInteger": "integer", "Float": "number", "NullType": "text",
    }[name]  # fmt: skip


def notes_of(column: Any) -> str:
    """Keys of a column."""
    points = [f"of `{key.target_fullname.replace('.', '`.`')}`" for key in column.foreign_keys]
    return ", ".join((["key"] if column.primary_key else []) + (["unique"] if column.unique else []) + points)
