"""`init`: a repository that validates, plans against the local devnet, and is checked by CI from its first commit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.author import words
from reconciler.cli.context import GLOBALS
from reconciler.cli.devnet import OVERLAYS, PORTS, STORAGE

# What people call the templates of manifest.scaffold.
TEMPLATES = {"identity": "minimal", "market-data": "financial", "minimal": "minimal", "financial": "financial", "iot": "iot"}
_LOOPBACK = "http://127.0.0.1"
_SECRET = re.compile(r"[0-9a-fA-F]{64}|[5KLc9][1-9A-HJ-NP-Za-km-z]{50,51}")

SETTINGS = """\
# What the process needs; everything about the world is a manifest.
state: .state
source: {path: .}
# The purse that pays fees and storage. Its key is made on first use and encrypted with the passphrase.
wallet: {key: {file: .keys/wallet.json, encryption: {passphrase: {env: RECONCILER_PASSPHRASE}}}}
# observe only looks and reports; auto acts within the guards.
mode: observe
# One plan may not delete more than this share, nor spend more than this.
guards: {deletes: {percent: 30}, spend: {run: 100000sat, day: 500000sat}}
"""
IGNORED = "# Keys and state never belong in git.\n/.keys/\n/.state/\n/.devnet/\n*.key\n"
WORKFLOW = """\
# Every fault of the manifests stands beside the lines of a pull request, and the plan in its summary.
name: manifests
on: [pull_request, push]
jobs:
  manifests:
    runs-on: ubuntu-latest
    permissions:
      contents: read
    env:
      RECONCILER_PASSPHRASE: ${{ secrets.RECONCILER_PASSPHRASE }}
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.11"}
      - run: pip install reconciler
      - run: reconciler validate --all -o github
      # Without a ledger the plan shows what a first apply would do.
      - if: github.event_name == 'pull_request'
        run: reconciler plan -o markdown >> "$GITHUB_STEP_SUMMARY"
"""


def init(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Where; this directory if omitted.", show_default=False)
    ] = None,
    template: Annotated[
        Literal["identity", "market-data", "iot", "minimal", "financial"],
        typer.Option("--template", "--from-template", help="What to start from; the last two are older names of the first two."),
    ] = "identity",
    name: Annotated[str, typer.Option("--name", help="The producer's name, as buyers see it.")] = "main",
    description: Annotated[str | None, typer.Option("--description", help="What the producer sells.")] = None,
    capabilities: Annotated[str | None, typer.Option("--capabilities", help="What it can do: a,b or a JSON array.")] = None,
    regions: Annotated[str | None, typer.Option("--regions", help="Where it serves: EU,US or a JSON array.")] = None,
    overlay_url: Annotated[
        list[str] | None,
        typer.Option("--overlay-url", metavar="URL", help="An overlay host instead of the devnet's (repeatable)."),
    ] = None,
    chain: Annotated[
        Literal["devnet", "test", "main"], typer.Option("--chain", "--network", help="Which chain the network is on.")
    ] = "devnet",
    identity_key: Annotated[
        str | None,
        typer.Option(
            "--identity-key", metavar="PLACE", help="A key you have: its file, env:VAR or credential:NAME, never the key."
        ),
    ] = None,
    form: Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")] = "text",
) -> int:
    """Write the skeleton of a repository. Nothing that exists is overwritten."""
    root = directory or GLOBALS.directory
    facts = {"displayName": name, "description": description, "capabilities": words(capabilities), "regions": words(regions)}
    files = skeleton(TEMPLATES[template], facts, chain, overlay_url or [], identity_key)
    write(root, files)
    if form == "json":
        output.document({"directory": str(root.resolve()), "files": sorted(files)})
        return exits.OK
    for path in sorted(files):
        output.data(str(root / path) if directory else path)
    go = f"cd {root}; " if directory else ""
    start = "reconciler devnet up --fund; " if chain == "devnet" and not overlay_url else ""
    if chain == "main":
        output.say("plans on chain main pay with real money: they are refused until guards.mainnet in reconciler.yaml is true")
    output.say(f"next: {go}export RECONCILER_PASSPHRASE='choose one'; {start}reconciler validate; reconciler plan")
    return exits.OK


def skeleton(
    template: str, facts: Mapping[str, Any], chain: str, overlays: Sequence[str], identity_key: str | None
) -> dict[str, str]:
    """The files of a new repository by path. `facts` are fields of the Identity; empty ones are left out."""
    from reconciler.manifest import scaffold

    name = re.sub(r"[^a-z0-9]+", "-", facts["displayName"].lower()).strip("-")[:63] or "main"
    files = dict(scaffold.skeleton(template, name=name, chain=chain))
    told = {key: value for key, value in facts.items() if value}
    identity = scaffold.new_manifest(
        "Identity", name, {"roles": ["producer"], **told, "key": _place(name, identity_key), "register": True}
    )
    network = scaffold.new_manifest("Network", "local" if chain == "devnet" else chain, _network(chain, overlays))
    head = f"{scaffold.MODELINE}\n"
    return files | {
        "identity.yaml": f"{head}# Who sells: one key, encrypted at rest, registered so that others can resolve it.\n{identity}",
        "network.yaml": f"{head}# What the outside is: hosts, and what may be spent on them.\n{network}",
        "reconciler.yaml": SETTINGS,
        ".gitignore": IGNORED,
        ".github/workflows/manifests.yml": WORKFLOW,
    }


def _place(name: str, given: str | None) -> dict[str, Any]:
    """The key block: made on first use below .keys, or found where its owner says."""
    from reconciler.model.errors import Refused

    phrase = {"encryption": {"passphrase": {"env": "RECONCILER_PASSPHRASE"}}}
    if given is None:
        return {"file": f".keys/{name}.json", "generate": "ifMissing", **phrase}
    if _SECRET.fullmatch(given):
        hint = "put it in a file of mode 0600 and name the file, and treat this key as seen"
        raise Refused("key-on-command-line", "cannot take a key from the command line: others can read it there", hint=hint)
    way, colon, where = given.partition(":")
    if colon and way in ("env", "credential"):
        return {way: where, "generate": "never"}
    return {"file": given, "generate": "never", **phrase}


# Services of the public chains that anybody may use without a key: somebody to send to, and headers with an index of spends.
_HEADERS = {"headers": {"url": "https://api.whatsonchain.com"}}
_PUBLIC: Mapping[str, Mapping[str, Any]] = {
    "test": {"broadcasters": [{"name": "gorillapool", "url": "https://testnet.arc.gorillapool.io"}], **_HEADERS},
    "main": {"broadcasters": [{"name": "gorillapool", "url": "https://arc.gorillapool.io"}], **_HEADERS},
}


def _network(chain: str, overlays: Sequence[str]) -> dict[str, Any]:
    """The Network's fields: the local devnet's hosts, or the overlay hosts that were named."""
    hosts = [{"url": url.rstrip("/"), "region": "EU"} for url in overlays]
    limits = {"fees": {"policy": "quoted", "max": "1000sat/kB"}, "wallet": {"dailyLimit": "200000sat"}}
    if chain != "devnet":
        return {"chain": chain, "overlays": hosts, **_PUBLIC[chain], **limits}

    def local(label: str) -> dict[str, str]:
        host, _, region = label.partition(":")
        return {"name": host, "url": f"{_LOOPBACK}:{PORTS[host]}", **({"region": region} if region else {})}

    return {
        "chain": chain,
        "overlays": hosts or [local(one) for one in OVERLAYS],
        "storage": [{**local(one), "kind": "uhrp"} for one in STORAGE],
        "broadcasters": [local("arc")],
        "headers": {"url": local("headers")["url"]},
        "gateway": {"publicUrl": "https://shop.example.com"},
        **limits,
    }


def buyer(name: str, chain: str, overlays: Sequence[str], budget: Mapping[str, str]) -> dict[str, str]:
    """The files of a buyer's repository by path."""
    from reconciler.manifest import scaffold

    known = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63] or "buyer"
    said = {"roles": ["consumer"], "key": _place(known, None), "consumer": {"budget": dict(budget)}}
    identity = scaffold.new_manifest("Identity", known, said)
    network = scaffold.new_manifest("Network", "local" if chain == "devnet" else chain, _network(chain, overlays))
    return {
        "identity.yaml": f"# Who buys: one key, encrypted at rest, and the most that it may spend.\n{identity}",
        "network.yaml": f"# Where it looks and pays.\n{network}",
        "reconciler.yaml": SETTINGS.replace("mode: observe", "mode: auto"),
        ".gitignore": IGNORED,
    }


def write(root: Path, files: Mapping[str, str]) -> None:
    """All of them or none: the first file that exists stops it before anything is written."""
    from reconciler.model.errors import Refused

    taken = sorted(path for path in files if (root / path).exists())
    if taken:
        hint = "choose another directory; for one more manifest there is reconciler new"
        raise Refused("exists", f"cannot start in {root}: {', '.join(taken)} exist{'s' if len(taken) == 1 else ''}", hint=hint)
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
