"""The Source port over git: what is in force, what stays out of force, and what a kill, a liar or a silent remote changes."""

import asyncio
import hashlib
import hmac
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.adapters import git_mirror
from reconciler.adapters.blobs import BlobDirectory
from reconciler.adapters.clock import SystemEntropy
from reconciler.adapters.files import DirectorySource
from reconciler.adapters.git import remote
from reconciler.adapters.git_local import local
from reconciler.adapters.git_mirror import Mirror, Target
from reconciler.adapters.git_source import PIN, GitSource, follow
from reconciler.adapters.sql.ledger import open_ledger
from reconciler.compose import workspace
from reconciler.devnet.clock import VirtualClock, run
from reconciler.doors import pushes
from reconciler.model.errors import Conflict, GuardRefused, ReconcilerError, Refused, Unavailable
from reconciler.model.status import Truth
from reconciler.ports import Ledger
from reconciler.settings import load
from reconciler.telemetry import Metrics
from tests.cli.producer import free_port
from tests.e2e.remote import GpgKey, Remote, SshKey, gpg_key, ssh_key

DEFAULTS: dict[str, Any] = {
    "credentials": {},
    "verify": {"ssh": [], "gpg": [], "revoked": []},
    "path": "",
    "poll": 60_000,
    "allowRewind": False,
    "maxSize": 1 << 30,
}
FILES: dict[str, str | bytes | None] = {
    "a.yaml": "a: 1\n",
    "sub/b.yml": "b: 2\n",
    "sub/notes.txt": "no manifest\n",
    ".hidden/c.yaml": "hidden: true\n",
    "data/rates.csv": "date,rate\n2024-01-01,1.10\n2024-01-02,1.11\n",
    "data/deep/er.csv": "x\n1\n",
}


class Desk:
    """One installation: a ledger, blobs and mirrors in a directory. Each `source` is a new process as far as it can tell."""

    def __init__(self, state: Path, url: str) -> None:
        self.state, self.url, self.clock = state, url, VirtualClock()
        state.mkdir(parents=True, exist_ok=True)
        self.ledger: Ledger = open_ledger(str(state / "ledger.db"), self.clock, entropy=SystemEntropy())[0]

    def source(self, **said: Any) -> GitSource:
        """As the settings would make it."""
        verify = {**DEFAULTS["verify"], **said.pop("verify", {})}
        whole = {**DEFAULTS, "url": self.url, **said, "verify": verify}
        blobs = BlobDirectory(self.state / "blobs")
        return follow(whole, self.state, self.state, self.ledger, blobs, self.clock, SystemEntropy())

    def pin(self, commit: str) -> None:
        """As the verb does."""
        with self.ledger.begin() as tx:
            tx.put(PIN, {"commit": commit})


@pytest.fixture
def origin(tmp_path: Path) -> Remote:
    return Remote(tmp_path / "origin")


@pytest.fixture
def desk(tmp_path: Path, origin: Remote) -> Iterator[Desk]:
    made = Desk(tmp_path / "state", origin.url)
    yield made
    made.ledger.close()


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> SshKey:
    return ssh_key(tmp_path_factory.mktemp("keys"), "alice")


@pytest.fixture(scope="module")
def mallory(tmp_path_factory: pytest.TempPathFactory) -> SshKey:
    return ssh_key(tmp_path_factory.mktemp("keys"), "mallory")


@pytest.fixture(scope="module")
def carol(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpgKey]:
    # A socket's path has a limit that deep test directories exceed.
    key = gpg_key(tmp_path_factory.mktemp("g") / "gnupg", "carol@example.org")
    yield key
    key.stop()


def refreshed(source: GitSource, clock: VirtualClock) -> GitSource:
    """After one look at the remote, past any pause."""
    clock.advance(60)
    run(source.refresh(), clock=clock)
    return source


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.row("P-CFG-16")
def test_a_commit_reads_as_its_work_tree_does(desk: Desk, origin: Remote) -> None:
    head = origin.push(FILES)
    source, tree = desk.source(), DirectorySource(origin.work)
    revision = source.current()
    assert revision.id == f"main@{head}"
    assert dict(revision.texts) == dict(tree.current().texts) == {"a.yaml": b"a: 1\n", "sub/b.yml": b"b: 2\n"}
    for pattern in (
        "data/rates.csv",
        "data/*.csv",
        "data/**/*.csv",
        "**/*.txt",
        "*",
        "*/*",
        "data/**",
        "none",
        ".hidden/*",
        "./a.yaml",
    ):
        assert list(source.facts(pattern)) == list(tree.facts(pattern)), pattern
    (fact,) = source.facts("data/rates.csv")
    assert fact.details["rows"] == 2
    assert not any(path.suffix == ".csv" for path in desk.state.rglob("*")), "something was checked out"


@pytest.mark.parametrize("pattern", ["../x", "/etc/passwd", "a/../../b", ""])
def test_no_pattern_leaves_the_repository(desk: Desk, origin: Remote, pattern: str) -> None:
    origin.push(FILES)
    source = desk.source()
    source.current()
    with pytest.raises(Refused) as error:
        source.facts(pattern)
    assert error.value.code == "path-escapes"


def test_only_the_directory_that_is_followed_is_seen(desk: Desk, origin: Remote) -> None:
    origin.push({"eu/a.yaml": "a: 1\n", "us/b.yaml": "b: 1\n", "eu/data/x.csv": "x\n1\n"})
    source = desk.source(path="eu")
    assert list(source.current().texts) == ["a.yaml"]
    assert [fact.path for fact in source.facts("data/*")] == ["data/x.csv"]
    source = desk.source(path="asia")
    with pytest.raises(Refused) as error:
        source.current()
    assert error.value.code == "git-path" and "asia" in error.value.message


def test_content_is_kept_by_its_digest_and_found_again_after_the_branch_moved(desk: Desk, origin: Remote) -> None:
    origin.push(FILES)
    source = desk.source()
    source.current()
    (before,) = source.facts("data/rates.csv")
    origin.push({"data/rates.csv": "date,rate\n2025-01-01,2\n"})
    refreshed(source, desk.clock).current()
    assert source.facts("data/rates.csv")[0].sha256 != before.sha256
    # A plan made of the older commit still finds its bytes.
    assert source.locate(before.path, before.sha256).read_bytes() == FILES["data/rates.csv"].encode()
    fresh = desk.source()
    fresh.current()
    assert fresh.locate(before.path, before.sha256).is_file(), "what was adopted stays"
    with pytest.raises(Conflict):
        fresh.locate("data/rates.csv", "ab" * 32)


def test_links_stay_inside_and_submodules_are_nothing(desk: Desk, origin: Remote) -> None:
    origin.write(FILES)
    (origin.work / "alias.yaml").symlink_to("sub/b.yml")
    (origin.work / "sub" / "again.yaml").symlink_to("../alias.yaml")
    other = origin.commit({})
    origin.call("update-index", "--add", "--cacheinfo", f"160000,{other},module")
    origin.call("commit", "--quiet", "-m", "a submodule")
    origin.call("push", "--quiet", "origin", "HEAD:refs/heads/main")
    texts = desk.source().current().texts
    assert texts["alias.yaml"] == texts["sub/again.yaml"] == b"b: 2\n"
    assert not any(name.startswith("module") for name in texts)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "sub/../../x"])
def test_a_link_that_leads_out_keeps_its_commit_out_of_force(desk: Desk, origin: Remote, target: str) -> None:
    good = origin.push(FILES)
    source = desk.source()
    source.current()
    (origin.work / "evil.yaml").symlink_to(target)
    bad = origin.push()
    refreshed(source, desk.clock)
    assert source.current().id == f"main@{good}"
    standing = source.standing()
    assert (standing.verified, standing.reason, standing.head) == (Truth.FALSE, "Unreadable", f"main@{bad}")
    assert "evil.yaml" in standing.message


def test_a_pointer_of_lfs_is_refused_by_name(desk: Desk, origin: Remote) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 12345\n"
    origin.push({**FILES, "data/big.parquet": pointer})
    source = desk.source()
    source.current()
    with pytest.raises(Refused) as error:
        source.facts("data/*.parquet")
    assert error.value.code == "lfs-pointer" and "data/big.parquet" in error.value.message
    origin.push({"a.yaml": pointer})
    with pytest.raises(Refused):
        refreshed(source, desk.clock).current()


def test_filters_and_attributes_of_the_repository_do_nothing(desk: Desk, origin: Remote, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    origin.push({**FILES, ".gitattributes": "* filter=trap text eol=crlf\n", "a.yaml": "a: $Id$\n"})
    for name in ("post-checkout", "reference-transaction", "post-update"):
        hook = desk.state / "git"
        assert not list(hook.rglob(name)), "no template brought hooks"
    source = desk.source()
    assert source.current().texts["a.yaml"] == b"a: $Id$\n"
    hooks = source.mirror.git.directory / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "reference-transaction").write_text(f"#!/bin/sh\ntouch {trap}\n")
    (hooks / "reference-transaction").chmod(0o755)
    origin.push({"a.yaml": "a: 3\n"})
    assert refreshed(source, desk.clock).current().texts["a.yaml"] == b"a: 3\n"
    assert not trap.exists()


# --- what comes into force -------------------------------------------------------------------------


def test_a_branch_advances_and_the_ledger_remembers_it(desk: Desk, origin: Remote) -> None:
    first = origin.push(FILES)
    source = desk.source()
    assert source.current().id == f"main@{first}"
    second = origin.push({"a.yaml": "a: 2\n"})
    assert source.current().id == f"main@{first}", "it moved without being asked"
    assert refreshed(source, desk.clock).current().id == f"main@{second}"
    assert source.standing().verified is Truth.UNKNOWN and not source.standing().held_back
    # The remote is gone; a new process goes on with what was in force.
    shutil.move(origin.bare, origin.root / "away.git")
    fresh = desk.source()
    revision = fresh.current()
    assert (revision.id, revision.texts["a.yaml"]) == (f"main@{second}", b"a: 2\n")
    assert "cannot ask" in fresh.standing().fault and not fresh.standing().held_back
    # And when it is back, it advances again.
    shutil.move(origin.root / "away.git", origin.bare)
    third = origin.push({"a.yaml": "a: 3\n"})
    assert refreshed(fresh, desk.clock).current().id == f"main@{third}"
    assert not fresh.standing().fault


def test_nothing_was_ever_fetched(desk: Desk, origin: Remote) -> None:
    origin.push(FILES)
    shutil.move(origin.bare, origin.root / "away.git")
    with pytest.raises(Unavailable) as error:
        desk.source().current()
    assert error.value.hint


def test_a_branch_that_does_not_exist_is_said_to_be_missing(desk: Desk, origin: Remote) -> None:
    origin.push(FILES)
    with pytest.raises(Unavailable) as error:
        desk.source(branch="nope").current()
    assert "branch nope" in error.value.message


def test_rewritten_history_needs_consent(desk: Desk, origin: Remote) -> None:
    origin.push(FILES)
    good = origin.push({"a.yaml": "a: 2\n"})
    source = desk.source()
    source.current()
    origin.call("reset", "--quiet", "--hard", "HEAD~1")
    rewound = origin.push({"a.yaml": "a: evil\n"})
    refreshed(source, desk.clock)
    assert source.current().id == f"main@{good}"
    standing = source.standing()
    assert (standing.verified, standing.reason, standing.head) == (Truth.FALSE, "Rewound", f"main@{rewound}")
    # Going on from the rewritten history is no way in, nor is a new process, nor a lost mirror.
    later = origin.push({"a.yaml": "a: more\n"})
    shutil.rmtree(desk.state / "git")
    fresh = desk.source()
    assert fresh.current().id == f"main@{good}" and fresh.standing().reason == "Rewound"
    consenting = desk.source(allowRewind=True)
    assert consenting.current().id == f"main@{later}"
    # Once it is in force, it is what later heads descend from.
    assert desk.source().current().id == f"main@{later}"


def test_a_branch_that_went_back_is_a_rewind_too(desk: Desk, origin: Remote) -> None:
    origin.push(FILES)
    good = origin.push({"a.yaml": "a: 2\n"})
    source = desk.source()
    source.current()
    origin.call("push", "--quiet", "--force", "origin", "HEAD~1:refs/heads/main")
    assert refreshed(source, desk.clock).current().id == f"main@{good}"
    assert source.standing().reason == "Rewound"


def test_a_pinned_commit_and_a_tag_that_moves(desk: Desk, origin: Remote) -> None:
    first = origin.push(FILES)
    origin.call("tag", "-m", "one", "v1")
    origin.call("push", "--quiet", "origin", "v1")
    second = origin.push({"a.yaml": "a: 2\n"})
    assert desk.source(commit=first).current().id == f"commit@{first}"
    tagged = desk.source(tag="v1")
    assert tagged.current().id == f"v1@{first}"
    origin.call("tag", "--force", "-m", "one again", "v1", second)
    origin.call("push", "--quiet", "--force", "origin", "v1")
    assert refreshed(tagged, desk.clock).current().id == f"v1@{second}"
    with pytest.raises(ReconcilerError):
        desk.source(commit="12" * 20).current()


def test_a_pin_holds_until_it_is_taken_away(desk: Desk, origin: Remote) -> None:
    first = origin.push(FILES)
    second = origin.push({"a.yaml": "a: 2\n"})
    source = desk.source()
    assert source.current().id == f"main@{second}"
    desk.pin(first)
    assert refreshed(source, desk.clock).current().id == f"main@{first}"
    assert source.standing().pinned == first
    third = origin.push({"a.yaml": "a: 3\n"})
    assert refreshed(source, desk.clock).current().id == f"main@{first}"
    desk.pin("")
    assert refreshed(source, desk.clock).current().id == f"main@{third}"


# --- signatures ------------------------------------------------------------------------------------


def signed_by(*keys: str, **more: list[str]) -> dict[str, list[str]]:
    return {"ssh": list(keys), **more}


def test_a_signed_head_comes_into_force_and_says_by_whom(desk: Desk, origin: Remote, alice: SshKey) -> None:
    origin.sign = alice.signing
    head = origin.push(FILES)
    source = desk.source(verify=signed_by(alice.allowed("alice@example.org")))
    assert source.current().id == f"main@{head}"
    standing = source.standing()
    assert (standing.verified, standing.reason) == (Truth.TRUE, "Verified")
    assert standing.message == "signed by alice@example.org"


@pytest.mark.parametrize(
    ("how", "reason"),
    [("unsigned", "Unsigned"), ("stranger", "UnknownSigner"), ("forged", "BadSignature"), ("removed", "UnknownSigner")],
)
def test_an_unverifiable_head_keeps_the_last_good_revision(
    desk: Desk, origin: Remote, alice: SshKey, mallory: SshKey, how: str, reason: str
) -> None:
    origin.sign = alice.signing
    good = origin.push(FILES)
    keys = signed_by(alice.allowed("alice@example.org"))
    source = desk.source(verify=keys)
    source.current()
    if how == "unsigned":
        origin.sign = ()
    elif how == "stranger":
        origin.sign = mallory.signing
    bad = origin.push({"a.yaml": "a: evil\n"})
    if how == "forged":
        text = origin.call("cat-file", "commit", "HEAD").replace("change", "chance")
        (origin.root / "forged").write_text(text + "\n")
        bad = origin.call("hash-object", "-t", "commit", "-w", str(origin.root / "forged"))
        origin.call("push", "--quiet", "--force", "origin", f"{bad}:refs/heads/main")
    if how == "removed":
        source = desk.source(verify=signed_by(mallory.allowed("mallory@example.org")))
    refreshed(source, desk.clock)
    assert source.current().id == f"main@{good}"
    assert source.current().texts["a.yaml"] == b"a: 1\n"
    standing = source.standing()
    assert (standing.verified, standing.reason, standing.head) == (Truth.FALSE, reason, f"main@{bad}")
    # A restart does not let it in, and a signed head on top of it does: whoever signs vouches for what is below.
    assert desk.source(verify=keys).current().id == (f"main@{bad}" if how == "removed" else f"main@{good}")
    origin.call("fetch", "--quiet", "origin", "main")
    origin.call("reset", "--quiet", "--hard", bad)
    origin.sign = alice.signing
    healed = origin.push({"a.yaml": "a: 9\n"})
    assert desk.source(verify=keys).current().id == f"main@{healed}"


def test_no_head_was_ever_verified(desk: Desk, origin: Remote, alice: SshKey) -> None:
    origin.push(FILES)
    with pytest.raises(GuardRefused) as error:
        desk.source(verify=signed_by(alice.allowed("alice@example.org"))).current()
    assert error.value.code == "unsigned" and "no signature" in error.value.message


def test_a_key_that_was_revoked_or_has_expired_counts_no_more(desk: Desk, origin: Remote, alice: SshKey) -> None:
    origin.sign = alice.signing
    good = origin.push(FILES)
    line = alice.allowed("alice@example.org")
    assert desk.source(verify=signed_by(line)).current().id == f"main@{good}"
    bad = origin.push({"a.yaml": "a: 2\n"})
    revoked = desk.source(verify=signed_by(line, revoked=[alice.public]))
    assert revoked.current().id == f"main@{good}" and revoked.standing().reason == "RevokedKey"
    late = desk.source(verify=signed_by(alice.allowed("alice@example.org", 'valid-before="20200101"')))
    assert late.current().id == f"main@{good}" and late.standing().reason == "ExpiredKey"
    # A key for files is none for commits.
    other = desk.source(verify=signed_by(alice.allowed("alice@example.org", 'namespaces="file"')))
    assert other.current().id == f"main@{good}" and other.standing().held_back
    assert desk.source(verify=signed_by(line)).current().id == f"main@{bad}"


def test_openpgp_signatures_are_judged_by_the_keys_of_the_settings_alone(
    desk: Desk, origin: Remote, carol: GpgKey, alice: SshKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(carol.home, origin.root / "gnupg", ignore=shutil.ignore_patterns("S.*"))
    mine = GpgKey(origin.root / "gnupg", carol.mail)
    try:
        origin.sign = mine.signing
        good = origin.push(FILES)
        (desk.state / "carol.asc").write_text(mine.public())
        source = desk.source(verify={"gpg": ["carol.asc"]})
        assert source.current().id == f"main@{good}"
        assert source.standing().message == "signed by Carol <carol@example.org>"
        # The keyring of whoever runs the daemon knows her, too; that counts for nothing.
        monkeypatch.setenv("GNUPGHOME", str(mine.home))
        bad = origin.push({"a.yaml": "a: 2\n"})
        stranger = desk.source(verify=signed_by(alice.allowed("alice@example.org")))
        assert stranger.current().id == f"main@{good}" and stranger.standing().reason == "UnknownSigner"
        mine.revoke()
        gone = desk.source(verify={"gpg": [mine.public()]})
        assert gone.current().id == f"main@{good}" and gone.standing().reason == "RevokedKey"
        assert gone.standing().head == f"main@{bad}"
    finally:
        mine.stop()


def test_the_signature_of_a_tag_counts_where_a_tag_is_followed(
    desk: Desk, origin: Remote, alice: SshKey, mallory: SshKey
) -> None:
    head = origin.push(FILES)
    origin.call(*alice.signing, "tag", "-s", "-m", "one", "v1")
    origin.call("push", "--quiet", "origin", "v1")
    keys = signed_by(alice.allowed("alice@example.org"))
    source = desk.source(tag="v1", verify=keys)
    assert source.current().id == f"v1@{head}" and source.standing().verified is Truth.TRUE
    origin.push({"a.yaml": "a: 2\n"})
    origin.call(*mallory.signing, "tag", "--force", "-s", "-m", "two", "v1")
    origin.call("push", "--quiet", "--force", "origin", "v1")
    assert refreshed(source, desk.clock).current().id == f"v1@{head}"
    assert source.standing().reason == "UnknownSigner"


@pytest.mark.parametrize(
    "verify",
    [{"gpg": ["-----BEGIN PGP PUBLIC KEY BLOCK-----\nnothing\n"]}, {"gpg": ["no-such-file.asc"]}, {"ssh": ["no-such-file"]}],
)
def test_keys_that_cannot_be_read_are_told_and_let_nothing_in(desk: Desk, origin: Remote, verify: dict[str, list[str]]) -> None:
    origin.push(FILES)
    with pytest.raises(Refused) as error:
        desk.source(verify=verify).current()
    assert error.value.code == "git-verify"


# --- kills, damage, silence ------------------------------------------------------------------------


def test_killed_between_fetch_and_record_nothing_has_happened(desk: Desk, origin: Remote, alice: SshKey) -> None:
    origin.sign = alice.signing
    good = origin.push(FILES)
    keys = signed_by(alice.allowed("alice@example.org"))
    desk.source(verify=keys).current()
    second = origin.push({"a.yaml": "a: 2\n"})
    # The dead process had fetched and moved its ref, and left half a pack and a lock behind.
    dead = Mirror(desk.state / "git", remote(origin.url), {}, desk.state, 1 << 30)
    assert dead.fetch(Target("branch", "main")) == second
    (dead.git.directory / "objects/pack/tmp_pack_x").write_bytes(b"PACK half")
    (dead.git.directory / "refs/incoming/head.lock").write_text("")
    shutil.move(origin.bare, origin.root / "away.git")
    assert desk.source(verify=keys).current().id == f"main@{good}", "a fetched head is not in force before it is recorded"
    shutil.move(origin.root / "away.git", origin.bare)
    third = origin.push({"a.yaml": "a: 3\n"})
    assert desk.source(verify=keys).current().id == f"main@{third}"
    assert not list(dead.git.directory.glob("objects/pack/tmp_*"))


def test_a_mirror_that_lost_objects_is_made_anew(desk: Desk, origin: Remote) -> None:
    good = origin.push(FILES)
    source = desk.source()
    source.current()
    for path in (source.mirror.git.directory / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    fresh = desk.source()
    assert fresh.current().texts["a.yaml"] == b"a: 1\n"
    assert fresh.current().id == f"main@{good}"


def test_many_fetches_become_one_pack_and_what_is_in_force_is_never_swept(
    desk: Desk, origin: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_mirror, "PACKS", 3)
    first = origin.push(FILES)
    source = desk.source()
    source.current()
    packs = source.mirror.git.directory / "objects" / "pack"
    most = 0
    for number in range(8):
        good = origin.push({"a.yaml": f"a: {number}\n"})
        refreshed(source, desk.clock)
        most = max(most, len(list(packs.glob("*.pack"))))
    assert 3 < most <= 5, "a fetch leaves a pack, and four are made one before the next"
    # The branch is rewritten, nobody agrees, and what nothing leads to any more is swept.
    origin.call("checkout", "--quiet", "--detach", first)
    origin.push({"a.yaml": "a: other\n"})
    refreshed(source, desk.clock)
    assert source.standing().reason == "Rewound"
    assert source.mirror.git.run("gc", "--prune=now", "--quiet").code == 0
    again = desk.source().current()
    assert again.id == f"main@{good}" and again.texts["a.yaml"] == b"a: 7\n"


def test_a_repository_that_is_too_large_fills_no_disk(desk: Desk, origin: Remote) -> None:
    good = origin.push(FILES)
    source = desk.source(maxSize=200_000)
    source.current()
    origin.push({"data/noise.bin": SystemEntropy().bytes(1_000_000)})
    refreshed(source, desk.clock)
    assert source.current().id == f"main@{good}"
    assert "maxSize" in source.standing().fault


def test_a_silent_remote_is_not_waited_for_at_every_pass(desk: Desk, origin: Remote) -> None:
    origin.push(FILES)
    source = desk.source()
    source.current()
    shutil.move(origin.bare, origin.root / "away.git")
    refreshed(source, desk.clock)
    assert source.standing().fault
    shutil.move(origin.root / "away.git", origin.bare)
    second = origin.push({"a.yaml": "a: 2\n"})
    run(source.refresh(), clock=desk.clock)
    assert source.standing().fault, "asked again at once"
    source.nudge()
    run(source.refresh(), clock=desk.clock)
    assert source.current().id == f"main@{second}"


# --- hints -----------------------------------------------------------------------------------------


def test_polls_come_round_with_jitter_and_speak_only_of_news(desk: Desk, origin: Remote) -> None:
    origin.push(FILES)
    source = desk.source(poll=60_000)

    async def scene() -> list[float]:
        await source.refresh()
        times: list[float] = []
        hints = source.revisions()
        for _ in range(3):
            waiting = asyncio.ensure_future(anext(hints))
            # Nothing new for ten polls.
            await desk.clock.sleep(600)
            assert not waiting.done()
            origin.push({"a.yaml": f"a: {len(times)}\n"})
            began = desk.clock.elapsed
            await waiting
            times.append(desk.clock.elapsed - began)
            await source.refresh()
        await hints.aclose()
        return times

    waits = run(scene(), clock=desk.clock)
    assert all(0 <= wait <= 72 for wait in waits)
    assert len(set(waits)) == 3, "no jitter"


def test_a_nudge_asks_at_once_and_a_false_one_costs_a_question(desk: Desk, origin: Remote) -> None:
    origin.push(FILES)
    source = desk.source(poll=86_400_000)

    async def scene() -> float:
        await source.refresh()
        hints = source.revisions()
        waiting = asyncio.ensure_future(anext(hints))
        for _ in range(5):
            source.nudge()
            await desk.clock.sleep(1)
            assert not waiting.done()
        origin.push({"a.yaml": "a: 2\n"})
        source.nudge()
        await waiting
        await hints.aclose()
        return desk.clock.elapsed

    assert run(scene(), clock=desk.clock) < 60


# --- the clone that a directory lies in ------------------------------------------------------------


def test_a_directory_in_a_clone_is_read_as_it_was(tmp_path: Path, origin: Remote) -> None:
    first = origin.commit({"eu/a.yaml": "a: 1\n", "eu/data/x.csv": "x\n1\n", "b.yaml": "b: 1\n"})
    second = origin.commit({"eu/a.yaml": "a: 2\n"})
    origin.write({"eu/a.yaml": "a: not committed\n"})
    blobs = BlobDirectory(tmp_path / "blobs")
    for name, id_, label in (("main", second, "main"), ("HEAD~1", first, "HEAD~1"), (first[:10], first, "commit")):
        revision = local(origin.work / "eu", name, blobs).current()
        assert revision.id == f"{label}@{id_}"
        assert dict(revision.texts) == {"a.yaml": b"a: 1\n" if id_ == first else b"a: 2\n"}
    found = local(origin.work / "eu", first, blobs)
    assert [fact.path for fact in found.facts("data/*")] == ["data/x.csv"]
    for directory, name, code in ((origin.work, "no-such-branch", "git-revision"), (tmp_path, "main", "git-none")):
        with pytest.raises(Refused) as error:
            local(directory, name, blobs)
        assert error.value.code == code


# --- the door for pushes, opened as the daemon opens it ----------------------------------------------


def test_a_push_at_the_door_makes_the_daemon_ask(tmp_path: Path, origin: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSH_SECRET", "between two")
    origin.push(FILES)
    port = free_port()
    push = f'push: {{listen: "127.0.0.1:{port}", secret: {{env: PUSH_SECRET}}}}'
    root = tmp_path / "desk"
    root.mkdir()
    (root / "reconciler.yaml").write_text(f"source: {{git: {{url: '{origin.url}', poll: 1d, {push}}}}}\n")

    async def post(body: bytes, secret: bytes) -> int:
        signature = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
        headers = {"x-github-event": "push", "x-hub-signature-256": signature}
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"http://127.0.0.1:{port}/push", content=body, headers=headers)
            return answer.status_code

    async def scene() -> None:
        async with workspace(load(root)) as space:
            source = space.ports.source
            await source.refresh()
            metrics = Metrics()
            async with pushes(space.settings, source, metrics):
                hints = source.revisions()
                waiting = asyncio.ensure_future(anext(hints))
                body = json.dumps({"ref": "refs/heads/main"}).encode()
                assert await post(body, b"somebody else's") == 401
                second = origin.push({"a.yaml": "a: 2\n"})
                assert await post(body, b"between two") == 202
                await asyncio.wait_for(waiting, 60)
                await source.refresh()
                assert source.current().id == f"main@{second}"
                await hints.aclose()
            text = metrics.exposition().decode()
            assert 'reconciler_push_total{result="heard"} 1.0' in text and 'reconciler_push_total{result="refused"} 1.0' in text

    asyncio.run(scene())
