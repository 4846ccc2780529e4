"""`identity` (and `wallet`, in purse.py): keys. No secret is ever printed, and none is taken from the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output, purse, rotation
from reconciler.cli.context import settings, with_workspace
from reconciler.cli.purse import WALLET

if TYPE_CHECKING:
    from reconciler.adapters.keystore import KeyStore
    from reconciler.adapters.wallet import LocalWallet
    from reconciler.compose import Workspace

Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")]
Name = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Name of the Identity; the only one if omitted.", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
PhraseEnv = Annotated[str | None, typer.Option("--passphrase-env", metavar="VAR", help="Variable that holds the passphrase.")]
PhraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", metavar="FILE", help="File (mode 0600) that holds the passphrase.")
]


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    own = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Keys that sign: make, show, verify, back up, restore.")
    for verb in (setup, show, verify, backup, restore):
        own.command()(verb)
    rotation.bind(own)
    app.add_typer(own, name="identity")
    purse.bind(app)


@dataclass(frozen=True, slots=True)
class Key:
    """A named key, its place, and the doors to both."""

    name: str
    source: Mapping[str, Any]
    store: KeyStore
    wallet: LocalWallet

    @property
    def identity(self) -> str:
        """The Identity it is a key of: later keys have its name and a number."""
        return self.name.partition("+")[0]

    @property
    def exists(self) -> bool:
        """Whether there is something at its place."""
        return self.store.exists(self.name, self.source)

    @property
    def where(self) -> str:
        """Its place in words."""
        return self.store.where(self.name, self.source)


def _key(name: str | None) -> Key:
    """The key of that Identity, of the purse ("wallet"), or of the only Identity; Refused when there is none such."""
    from reconciler.compose import keyring
    from reconciler.model.errors import Refused

    chosen = settings()
    store, wallet = keyring(chosen)
    if name == WALLET:
        return Key(WALLET, chosen.wallet_key, store, wallet)
    sources, current = with_workspace(_sources)
    names = ", ".join(sorted(current)) or "none"
    if name is None and len(current) != 1:
        raise Refused("which-identity", f"cannot tell which Identity is meant: there are {names}", hint="name one")
    name = name or next(iter(current))
    if name not in sources and name not in current:
        raise Refused("no-identity", f"cannot find Identity/{name}: there are {names}", hint="reconciler new identity NAME")
    name = current.get(name, name)
    wallet.know({name: sources[name]})
    return Key(name, sources[name], store, wallet)


async def _sources(space: Workspace) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
    """Where every key lives, as declared, or as recorded without manifests; and by Identity, which of them it has."""
    from reconciler.engine.survey import key_sources, midnight
    from reconciler.kinds import identity_keys

    recorded = space.ports.ledger.read(midnight(space.ports.clock.now()))
    sources = key_sources(space.surveyor.load().desired, recorded)
    records = {ref.name: record.outputs for ref, record in recorded.records.items() if ref.kind == "Identity"}
    names = sorted({name.partition("+")[0] for name in sources})
    return sources, {name: identity_keys.current(name, records.get(name) or {}) for name in names}


# --- identity --------------------------------------------------------------------------------------


def setup(
    name: Name = None,
    generate: Annotated[bool, typer.Option("--generate-key", help="Make the key if there is none (the default).")] = True,
    copy: Annotated[Path | None, typer.Option("--backup-key", metavar="FILE", help="Write an encrypted backup, too.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Archive the key that is there and make a new one. Asks.")] = False,
    yes: Yes = False,
    phrase_env: PhraseEnv = None,
    phrase_file: PhraseFile = None,
    form: Form = "text",
) -> int:
    """Make an Identity's key, once: a second run finds the first key and changes nothing."""
    key = _key(name)
    archived = _archive(key, "makes a new one", yes=yes) if force and key.exists else None
    before = key.exists
    if not before and key.source.get("generate") == "never":
        from reconciler.model.errors import Refused

        hint = "put the key there, restore a backup, or write generate: ifMissing"
        raise Refused(
            "never-generate", f"cannot make the key of Identity/{key.identity}: its manifest says generate: never", hint=hint
        )
    public = key.wallet.generate(key.name, key.source)
    if copy is not None:
        key.wallet.backup(key.name, copy, _phrase(phrase_env, phrase_file, confirm=True))
    facts = {"name": key.identity, "publicKey": public, "created": not before, "where": key.where}
    if form == "json":
        output.document({**facts, "archived": str(archived) if archived else None, "backup": str(copy) if copy else None})
        return exits.OK
    output.data(public)
    output.say(f"Identity/{key.identity}: {'found' if before else 'made'} in {key.where}")
    if copy is not None:
        output.say(f"backup in {copy}; restore it with: reconciler identity restore {key.name} {copy}")
    return exits.OK


def show(name: Name = None, form: Form = "text") -> int:
    """Show an Identity's public key, where the key lives, and what it has published."""
    key = _key(name)
    facts = with_workspace(lambda space: _published(space, key))
    if form == "json":
        output.document(facts)
        return exits.OK
    rows = [("name", key.identity), ("public key", facts["publicKey"] or "no key yet; make it with reconciler identity setup")]
    rows += [("key", facts["where"]), ("registered", facts["registered"] or "no")]
    rows += [(f"subkey {sub}", public) for sub, public in facts["subkeys"].items()]
    rows += [(token["of"], f"{token['topic']}  {token['outpoint']}") for token in facts["tokens"]]
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        output.data(f"{label:<{width}}  {value}")
    return exits.OK


async def _published(space: Workspace, key: Key) -> dict[str, Any]:
    from reconciler.engine.survey import midnight

    recorded = space.ports.ledger.read(midnight(space.ports.clock.now()))
    tokens = [
        {"of": str(ref), "topic": token["topic"], "outpoint": token["outpoint"]}
        for ref, record in sorted(recorded.records.items())
        for token in record.outputs.get("tokens") or ()
        if token["owner"].partition("#")[0].partition("+")[0] == key.identity
    ]
    own = [token["outpoint"] for token in tokens if token["of"] == f"Identity/{key.identity}"]
    public = key.wallet.public_key(key.name) if key.exists else None
    desired = space.surveyor.load().desired
    wants = {ref.name: want for ref, want in desired.resources.items() if ref.kind == "Identity"} if desired else {}
    named = [sub["name"] for sub in wants[key.identity].spec.get("subkeys") or ()] if key.identity in wants else []
    return {
        "name": key.identity,
        "publicKey": public,
        "where": key.where,
        "registered": own[0] if own else None,
        "subkeys": {sub: key.wallet.public_key(f"{key.name}#{sub}") for sub in named} if public else {},
        "tokens": tokens,
    }


def verify(
    name: Name = None,
    advertisements: Annotated[
        bool, typer.Option("--validate-advertisements", help="Also compare manifests, records and the chain.")
    ] = False,
    payment: Annotated[
        bool, typer.Option("--test-payment-endpoints", help="Also ask our gateway for each price; nothing is paid.")
    ] = False,
    reputation: Annotated[
        bool, typer.Option("--check-reputation", help="Also count the points that facts give, and show the facts.")
    ] = False,
    least: Annotated[
        int | None, typer.Option("--min-reputation", min=0, max=100, help="So many points are expected, at least.")
    ] = None,
    form: Form = "text",
) -> int:
    """Compare the key, the records and what hosts show for it. Exit code 1 when something differs, 3 when a host is silent."""
    from reconciler.cli.verifying import Wanted, looked, tell

    key = _key(name)
    public = key.wallet.public_key(key.name) if key.exists else None
    wanted = Wanted(advertisements, payment, reputation or least is not None, least)
    return tell(key.identity, public, with_workspace(lambda space: looked(space, key.identity, public, wanted)), form)


def backup(
    name: Annotated[str, typer.Argument(metavar="NAME", help='An Identity, or "wallet" for the purse.')],
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; an existing one is never replaced.")],
    phrase_env: PhraseEnv = None,
    phrase_file: PhraseFile = None,
) -> int:
    """Write a key, encrypted under a passphrase of its own, to a new file of mode 0600."""
    key = _key(name)
    key.wallet.backup(key.name, path, _phrase(phrase_env, phrase_file, confirm=True))
    output.say(f"wrote {path}; restore it with: reconciler identity restore {name} {path}")
    return exits.OK


def restore(
    name: Annotated[str, typer.Argument(metavar="NAME", help='An Identity, or "wallet" for the purse.')],
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What identity backup wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Archive the key that is there first. Asks.")] = False,
    yes: Yes = False,
    phrase_env: PhraseEnv = None,
    phrase_file: PhraseFile = None,
) -> int:
    """Put a backed-up key in its place; a key that is there is never replaced without --force."""
    from reconciler.adapters.keyfile import unseal
    from reconciler.adapters.secret import private_bytes

    key = _key(name)
    phrase = _phrase(phrase_env, phrase_file)
    # Opened before anything is moved: a wrong passphrase must not cost the key that is there.
    unseal(private_bytes(path), phrase, str(path))
    if force and key.exists:
        _archive(key, f"puts that of {path} in its place", yes=yes)
    output.data(key.wallet.restore(key.name, path, phrase))
    output.say(f"restored into {key.where}")
    return exits.OK


def _archive(key: Key, then: str, *, yes: bool) -> Path:
    """Ask, then set the present key aside; Refused off a terminal without --yes."""
    from reconciler.cli.asking import require_yes
    from reconciler.compose import now

    locked = [] if key.name == WALLET else with_workspace(lambda space: _published(space, key))["tokens"]
    output.say(f"this archives the key of {key.name} ({key.wallet.public_key(key.name)}) and {then}")
    if locked:
        output.say(f"{len(locked)} tokens on the chain are locked to it: only it can change or withdraw them")
    if key.name == WALLET:
        output.say("coins of the purse are locked to it: only it can spend them")
    require_yes(f"replace the key of {key.name}", yes=yes)
    kept = key.store.archive(key.name, key.source, now())
    output.say(f"archived in {kept}")
    return kept


def _phrase(variable: str | None, file: Path | None, *, confirm: bool = False) -> bytes:
    """The passphrase of a backup: from where the flags say, from $RECONCILER_PASSPHRASE, or asked on a terminal."""
    from reconciler.adapters.keystore import PASSPHRASE
    from reconciler.adapters.secret import env_bytes, read_secret
    from reconciler.model.errors import Refused

    if variable and file:
        raise typer.BadParameter("give --passphrase-env or --passphrase-file, not both")
    if variable:
        return env_bytes(variable)
    if file is not None:
        return read_secret({"file": str(file.resolve())})
    if os.environ.get(PASSPHRASE):
        return env_bytes(PASSPHRASE)
    if sys.stdin.isatty():
        return str(typer.prompt("Passphrase of the backup", hide_input=True, confirmation_prompt=confirm, err=True)).encode()
    raise Refused("no-passphrase", "cannot use a backup without a passphrase", hint=f"set {PASSPHRASE}, or name a place")
