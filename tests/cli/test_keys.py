"""`identity` and `wallet`: keys made once, backed up and restored; coins that count only after their proof was verified."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from reconciler.adapters.keyfile import unseal
from reconciler.cli.qr import drawn
from reconciler.devnet import control
from reconciler.wire import keys
from reconciler.wire.script import p2pkh
from tests.cli.conftest import PASSPHRASE, Cli, Shop

OTHER = {"OTHER_PHRASE": "another phrase"}


@pytest.mark.row("P-ID-01", "P-REG-05")
def test_a_key_is_made_once_and_a_second_run_finds_it(cli: Cli, repo: Path) -> None:
    first = cli("identity", "setup", "--generate-key", "-o", "json").json
    second = cli("identity", "setup", "-o", "json").json
    assert (first["created"], second["created"]) == (True, False)
    assert first["publicKey"] == second["publicKey"] == cli("identity", "setup", "corner-desk").out.strip()
    # An independent library derives the same public key from the file's secret.
    from bsv import PrivateKey

    secret = unseal((repo / ".keys/corner-desk.json").read_bytes(), PASSPHRASE.encode(), "the file")
    assert PrivateKey(secret).public_key().hex() == first["publicKey"]


@pytest.mark.row("P-ID-05", "P-REG-07")
def test_a_backup_is_encrypted_private_and_signs_identically_in_an_empty_home(cli: Cli, repo: Path, tmp_path: Path) -> None:
    copy = tmp_path / "backup.json"
    public = cli("identity", "setup", "--backup-key", copy, "--passphrase-env", "OTHER_PHRASE", env=OTHER).out.strip()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    secret = unseal((repo / ".keys/corner-desk.json").read_bytes(), PASSPHRASE.encode(), "the file")
    for spelling in (secret, secret.hex().encode(), keys.wif_encode(secret, "main").encode()):
        assert spelling not in copy.read_bytes()
    home = tmp_path / "home"
    shutil.copytree(repo, home, ignore=shutil.ignore_patterns(".keys", ".state"))
    wrong = cli("identity", "restore", "corner-desk", copy, cwd=home, expect=1)
    assert "the passphrase is wrong" in wrong.err and not (home / ".keys").exists()
    back = cli("identity", "restore", "corner-desk", copy, "--passphrase-env", "OTHER_PHRASE", cwd=home, env=OTHER)
    assert back.out.strip() == public
    restored = unseal((home / ".keys/corner-desk.json").read_bytes(), PASSPHRASE.encode(), "the file")
    assert keys.sign(restored, b"message") == keys.sign(secret, b"message")
    again = cli("identity", "backup", "corner-desk", copy, expect=1)
    assert f"{copy} exists" in again.err


@pytest.mark.row("P-ID-06")
def test_a_new_key_needs_force_and_a_yes_and_keeps_the_old_one(cli: Cli, repo: Path) -> None:
    first = cli("identity", "setup").out.strip()
    unasked = cli("identity", "setup", "--force", expect=1)
    assert "cannot replace the key of corner-desk without asking" in unasked.err
    assert cli("identity", "setup").out.strip() == first
    second = cli("identity", "setup", "--force", "--yes", "-o", "json").json
    assert second["created"] and second["publicKey"] != first
    old = unseal(Path(second["archived"]).read_bytes(), PASSPHRASE.encode(), "the archive")
    assert keys.public_key(old).hex() == first
    back = cli("identity", "restore", "corner-desk", second["archived"], expect=1)
    assert "exists" in back.err and "--force" in back.err
    assert cli("identity", "restore", "corner-desk", second["archived"], "--force", "--yes").out.strip() == first


def test_a_wrong_passphrase_costs_no_key(cli: Cli, repo: Path, tmp_path: Path) -> None:
    public = cli("identity", "setup").out.strip()
    cli("identity", "backup", "corner-desk", tmp_path / "b.json")
    bad = {"OTHER_PHRASE": "wrong"}
    words = ("--force", "--yes", "--passphrase-env", "OTHER_PHRASE")
    cli("identity", "restore", "corner-desk", tmp_path / "b.json", *words, env=bad, expect=1)
    assert cli("identity", "setup").out.strip() == public
    assert [path.name for path in (repo / ".keys").iterdir()] == ["corner-desk.json"]


def test_a_key_that_is_never_generated_is_not_made(cli: Cli, repo: Path) -> None:
    cli("set", "identity/corner-desk", "key.generate=never")
    ran = cli("identity", "setup", expect=1)
    assert "generate: never" in ran.err and not (repo / ".keys").exists()


def test_no_verb_shows_a_secret(cli: Cli, repo: Path, tmp_path: Path) -> None:
    said = [cli("identity", "setup", "-o", "json"), cli("-v", "identity", "show", "-o", "json"), cli("identity", "show")]
    said += [cli("wallet", "address", "-o", "json"), cli("identity", "backup", "wallet", tmp_path / "w.json")]
    said += [cli("identity", "verify", expect=None), cli("-v", "identity", "setup", env={"RECONCILER_PASSPHRASE": ""}, expect=1)]
    text = "".join(ran.out + ran.err for ran in said)
    for name in ("corner-desk", "wallet"):
        secret = unseal((repo / ".keys" / f"{name}.json").read_bytes(), PASSPHRASE.encode(), name)
        for spelling in (secret.hex(), keys.wif_encode(secret, "main"), keys.wif_encode(secret, "test"), PASSPHRASE):
            assert spelling not in text


def test_show_says_where_the_key_is_before_there_is_one(cli: Cli, repo: Path) -> None:
    shown = cli("identity", "show", "-o", "json").json
    assert (shown["publicKey"], shown["registered"], shown["tokens"]) == (None, None, [])
    assert shown["where"] == str(repo / ".keys/corner-desk.json")
    assert "cannot find Identity/nobody: there are corner-desk" in cli("identity", "show", "nobody", expect=1).err


# --- the purse -------------------------------------------------------------------------------------


def test_the_faucet_fills_the_purse_and_the_balance_says_so(shop: Shop) -> None:
    before = shop("wallet", "balance", "-o", "json").json["devnet"]
    (coin,) = shop("wallet", "fund", "--satoshis", "1234", "-o", "json").json
    assert (coin["satoshis"], coin["chain"]) == (1234, "devnet")
    after = shop("wallet", "balance", "-o", "json").json["devnet"]
    assert (after["free"], after["coins"]) == (before["free"] + 1234, before["coins"] + 1)
    assert shop("wallet", "balance").out.splitlines()[0].split() == ["CHAIN", "FREE", "PENDING", "RESERVED", "COINS", "LARGEST"]


def test_a_payment_is_received_as_file_hex_or_stream_and_counts_once(shop: Shop, tmp_path: Path) -> None:
    asked = shop("wallet", "address", "-o", "json").json
    script = bytes.fromhex(asked["lockingScript"])
    assert keys.base58check_encode(b"\x6f" + script[3:23]) == asked["address"]
    before = shop("wallet", "balance", "-o", "json").json["devnet"]["free"]
    outpoint, beef = control.faucet(shop.root / ".devnet", script, 777)
    (tmp_path / "payment.beef").write_bytes(beef)
    for given, stdin in ((tmp_path / "payment.beef", None), (beef.hex(), None), ("-", beef), ("-", beef.hex().encode())):
        (coin,) = shop("wallet", "receive", given, "-o", "json", stdin=stdin).json
        assert coin == {"outpoint": str(outpoint), "chain": "devnet", "satoshis": 777}
    assert shop("wallet", "balance", "-o", "json").json["devnet"]["free"] == before + 777


def test_a_payment_whose_proof_does_not_hold_or_that_pays_others_is_not_entered(shop: Shop) -> None:
    script = bytes.fromhex(shop("wallet", "address", "-o", "json").json["lockingScript"])
    before = shop("wallet", "balance", "-o", "json").json
    _, beef = control.faucet(shop.root / ".devnet", script, 555)
    value = (555).to_bytes(8, "little")
    assert beef.count(value) == 1
    forged = beef.replace(value, (5_000_000).to_bytes(8, "little"))
    assert "error: cannot" in shop("wallet", "receive", forged.hex(), expect=1).err
    stranger = p2pkh(keys.public_key(os.urandom(32)))
    _, other = control.faucet(shop.root / ".devnet", stranger, 555)
    assert "none of its outputs pays" in shop("wallet", "receive", other.hex(), expect=1).err
    assert "cannot read a payment" in shop("wallet", "receive", "no-such-file", expect=1).err
    assert shop("wallet", "balance", "-o", "json").json == before


def test_only_a_devnet_has_a_faucet(cli: Cli) -> None:
    cli("set", "network/local", "chain=test")
    ran = cli("wallet", "fund", expect=1)
    assert "cannot fund on chain test" in ran.err and "wallet receive" in ran.err
    assert "the purse is empty" in cli("wallet", "balance").err


def test_a_network_that_is_away_is_said_plainly(cli: Cli) -> None:
    cli("set", "network/local", 'broadcasters=[{name: arc, url: "http://127.0.0.1:9"}]')
    ran = cli("wallet", "fund", expect=3)
    assert "cannot reach http://127.0.0.1:9" in ran.err and "devnet up" in ran.err


def test_the_address_is_a_link_and_a_picture_of_it(shop: Shop) -> None:
    asked = shop("wallet", "address", "--satoshis", "1000", "-o", "json").json
    assert asked["uri"] == f"bitcoin:{asked['address']}?sv&amount=0.00001"
    plain, *more = shop("wallet", "address", "--satoshis", "1000", "--qr").out.splitlines()
    assert (plain, more[0]) == (asked["address"], asked["uri"])
    assert "\n".join(more[1:]) == drawn(asked["uri"], colour=False)


def test_coins_are_merged_and_the_purse_is_emptied_only_when_asked_for(shop: Shop) -> None:
    for satoshis in ("300", "400"):
        shop("wallet", "fund", "--satoshis", satoshis)
    unasked = shop("wallet", "consolidate", "--below", "500", expect=1)
    assert "cannot merge coins without asking" in unasked.err and "2 coins, 700 sat -> 1 of" in unasked.err
    merged = shop("wallet", "consolidate", "--below", "500", "--yes", "-o", "json").json
    assert (merged["coins"], merged["satoshis"]) == (2, 700 - merged["fee"])
    free = shop("wallet", "balance", "-o", "json").json["devnet"]["free"]
    stranger = keys.address(keys.public_key(os.urandom(32)), "devnet")
    assert "is an address of main" in shop("wallet", "sweep", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "--yes", expect=1).err
    shown = shop("wallet", "sweep", stranger, "--dry-run", "-o", "json").json
    assert shown["transactions"] == [] and shop("wallet", "balance", "-o", "json").json["devnet"]["free"] == free
    swept = shop("wallet", "sweep", stranger, "--yes", "-o", "json").json
    assert len(swept["transactions"]) == 1 and swept["satoshis"] + swept["fee"] + swept["left"]["satoshis"] == free
    assert "nothing to do" in shop("wallet", "sweep", stranger, "--yes").err
