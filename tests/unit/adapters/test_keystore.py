"""Keys at rest: made once, encrypted, closed to others, and never to be found in what the program says."""

import json
import multiprocessing
import stat
import traceback
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.adapters import keyfile
from reconciler.adapters.clock import SystemEntropy
from reconciler.adapters.keystore import PASSPHRASE, KeyStore
from reconciler.adapters.secret import CREDENTIALS, bearer, private_bytes, read_secret
from reconciler.devnet.clock import SeededEntropy
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused
from reconciler.wire import keys

SECRET = bytes.fromhex("00112233445566778899aabbccddeeff0102030405060708090a0b0c0d0e0f10")
FORMS = {
    "raw": SECRET,
    "hex": SECRET.hex().encode(),
    "HEX": SECRET.hex().upper().encode(),
    "wif": keys.wif_encode(SECRET, "main").encode(),
    "test wif": keys.wif_encode(SECRET, "test").encode(),
    "repr": repr(SECRET).encode(),
    "decimal": str(int.from_bytes(SECRET, "big")).encode(),
}


def assert_no_secret(text: bytes, secret: bytes = SECRET) -> None:
    """None of the forms a key can be written in."""
    found = [name for name, form in FORMS.items() if form in text] if secret == SECRET else []
    assert found == []
    assert secret not in text
    assert secret.hex().encode() not in text.lower()


class OneKey:
    """Entropy whose first 32 bytes are SECRET; the rest is a seed's."""

    def __init__(self) -> None:
        self.given = False
        self.rest = SeededEntropy(1)

    def bytes(self, count: int) -> bytes:
        if count == 32 and not self.given:
            self.given = True
            return SECRET
        return self.rest.bytes(count)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CREDENTIALS, raising=False)
    monkeypatch.setenv(PASSPHRASE, "correct horse")


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys", OneKey(), tmp_path)


@pytest.mark.row("P-ID-01")
def test_a_key_is_made_once_and_then_stays(store: KeyStore, tmp_path: Path) -> None:
    first = store.generate("me", {"file": "me.json"})
    again = KeyStore(tmp_path / "keys", SystemEntropy(), tmp_path)
    assert again.generate("me", {"file": "me.json"}) == first
    assert again.load("me", {"file": "me.json"}) == first == SECRET


@pytest.mark.row("P-ID-01")
def test_the_public_key_is_the_one_an_independent_library_derives(store: KeyStore) -> None:
    bsv = pytest.importorskip("bsv")
    secret = store.generate("me", {})
    stated = keyfile.public_of(store.path("me", {}).read_bytes(), "me")
    assert stated == bsv.PrivateKey(secret).public_key().hex()


@pytest.mark.row("P-ID-19")
@pytest.mark.row("P-ID-14")
def test_the_file_holds_no_key_in_any_form(store: KeyStore) -> None:
    store.generate("me", {})
    path = store.path("me", {})
    assert_no_secret(path.read_bytes())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    header = json.loads(path.read_bytes())["header"]
    assert header["kdf"] | {"salt": ""} == {"name": "scrypt", "n": 32768, "r": 8, "p": 1, "salt": ""}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "no temporary file is left"


@pytest.mark.row("P-ID-19")
def test_a_wrong_passphrase_opens_nothing(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.generate("me", {})
    monkeypatch.setenv(PASSPHRASE, "correct house")
    with pytest.raises(Refused, match="passphrase is wrong") as caught:
        store.load("me", {})
    assert caught.value.code == "wrong-passphrase"


@pytest.mark.parametrize("place", ["publicKey", "nonce", "salt", "ciphertext"])
def test_a_changed_file_opens_no_more(store: KeyStore, place: str) -> None:
    store.generate("me", {})
    path = store.path("me", {})
    body = json.loads(path.read_bytes())
    home = {"salt": body["header"]["kdf"], "ciphertext": body}.get(place, body["header"])
    other = keys.public_key(bytes([7]) * 32).hex()
    home[place] = other if place == "publicKey" else bytes(b ^ 1 for b in bytes.fromhex(home[place])).hex()
    path.write_text(json.dumps(body))
    with pytest.raises(Refused, match="passphrase is wrong or the file was changed"):
        store.load("me", {})


@pytest.mark.parametrize(
    "change",
    [
        {"format": "reconciler-key/2"},
        {"cipher": "none"},
        {"kdf": {"name": "scrypt", "n": 2**24, "r": 8, "p": 1, "salt": "00" * 16}},
        {"kdf": {"name": "scrypt", "n": 3, "r": 8, "p": 1, "salt": "00" * 16}},
        {"kdf": {"name": "scrypt", "n": True, "r": 8, "p": 1, "salt": "00" * 16}},
        {"kdf": None},
        {"nonce": "00"},
        {"publicKey": "00" * 33},
        {"more": 1.5},
    ],
)
def test_a_file_of_another_shape_is_refused_before_any_work(store: KeyStore, change: dict[str, object]) -> None:
    store.generate("me", {})
    path = store.path("me", {})
    body = json.loads(path.read_bytes())
    body["header"] |= change
    path.write_text(json.dumps(body))
    with pytest.raises(Refused, match="as a key file"):
        store.load("me", {})


@pytest.mark.row("P-ID-19")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o610])
def test_a_key_that_others_may_touch_is_refused(store: KeyStore, mode: int) -> None:
    store.generate("me", {})
    path = store.path("me", {})
    path.chmod(mode)
    with pytest.raises(Refused, match=f"{mode:04o}") as caught:
        store.load("me", {})
    assert caught.value.hint == f"chmod 600 {path}"
    path.chmod(0o400)
    assert store.load("me", {}) == SECRET


@pytest.mark.row("P-ID-06")
def test_nothing_overwrites_a_key(store: KeyStore, tmp_path: Path) -> None:
    store.generate("me", {})
    path = store.path("me", {})
    before = path.read_bytes()
    assert keyfile.create(path, b"other") is False
    with pytest.raises(Refused, match="exists"):
        store.backup("me", {}, path, b"p")
    store.backup("me", {}, tmp_path / "copy", b"p")
    with pytest.raises(Refused, match="exists") as caught:
        store.restore("me", {}, tmp_path / "copy", b"p")
    assert caught.value.code == "key-exists"
    assert path.read_bytes() == before


@pytest.mark.row("P-ID-06")
def test_starting_over_keeps_the_old_key_beside(store: KeyStore) -> None:
    first = store.generate("me", {})
    path = store.path("me", {})
    content = path.read_bytes()
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    kept = store.archive("me", {}, moment)
    assert kept.name == "me.key.json.20260102T030405Z.old"
    assert kept.read_bytes() == content
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert not store.exists("me", {})
    second = store.generate("me", {})
    assert second != first
    with pytest.raises(Refused, match="exists"):
        store.archive("me", {}, moment)
    assert store.load("me", {}) == second
    assert kept.read_bytes() == content


def _race(directory: str, start, out) -> None:
    start.wait()
    out.put(KeyStore(Path(directory), SystemEntropy()).generate("me", {}).hex())


@pytest.mark.row("P-ID-01")
def test_processes_that_race_make_one_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, out = context.Event(), context.Queue()
    racers = [context.Process(target=_race, args=(str(tmp_path), start, out)) for _ in range(2)]
    for racer in racers:
        racer.start()
    start.set()
    made = {out.get(timeout=60) for _ in racers}
    for racer in racers:
        racer.join()
    assert len(made) == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.row("P-ID-05")
def test_a_backup_is_closed_encrypted_and_restores_the_same_key(store: KeyStore, tmp_path: Path) -> None:
    store.generate("me", {})
    copy = tmp_path / "usb" / "me.backup"
    store.backup("me", {}, copy, b"another passphrase")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert_no_secret(copy.read_bytes())
    assert copy.read_bytes() != store.path("me", {}).read_bytes(), "salt and nonce are fresh"
    home = KeyStore(tmp_path / "empty home", SystemEntropy())
    with pytest.raises(Refused, match="passphrase is wrong"):
        home.restore("me", {}, copy, b"correct horse")
    assert not home.exists("me", {})
    assert home.restore("me", {}, copy, b"another passphrase") == keys.public_key(SECRET).hex()
    assert home.load("me", {}) == SECRET
    copy.chmod(0o644)
    with pytest.raises(Refused, match="0644"):
        KeyStore(tmp_path / "third", SystemEntropy()).restore("me", {}, copy, b"another passphrase")


@pytest.mark.row("P-ID-05")
@pytest.mark.row("P-REG-07")
def test_a_key_can_be_backed_up_in_the_step_that_makes_it(store: KeyStore, tmp_path: Path) -> None:
    source = {"file": "me.json", "backup": {"path": "backup/me.json"}}
    store.generate("me", source)
    copy = tmp_path / "backup/me.json"
    first = copy.read_bytes()
    assert keyfile.unseal(first, b"correct horse", "copy") == SECRET
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    store.generate("me", source)
    assert copy.read_bytes() == first


def test_passphrases_come_from_where_the_source_says(store: KeyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE)
    with pytest.raises(Refused, match="without a passphrase") as caught:
        store.generate("none", {})
    assert PASSPHRASE in str(caught.value.hint)
    monkeypatch.setenv("MINE", "one")
    (tmp_path / "phrase").write_text("two\n")
    (tmp_path / "phrase").chmod(0o600)
    (tmp_path / "given").mkdir()
    (tmp_path / "given/phrase").write_text("three\n")
    monkeypatch.setenv(CREDENTIALS, str(tmp_path / "given"))
    for name, place, phrase in (
        ("a", {"env": "MINE"}, b"one"),
        ("b", {"file": "phrase"}, b"two"),
        ("c", {"credential": "phrase"}, b"three"),
    ):
        source = {"file": f"{name}.json", "encryption": {"passphrase": place}}
        secret = store.generate(name, source)
        assert keyfile.unseal((tmp_path / f"{name}.json").read_bytes(), phrase, name) == secret
    (tmp_path / "phrase").chmod(0o644)
    with pytest.raises(Refused, match="0644"):
        store.load("b", {"file": "b.json", "encryption": {"passphrase": {"file": "phrase"}}})


@pytest.mark.parametrize("form", ["hex", "wif", "test wif"])
@pytest.mark.parametrize("place", ["env", "credential", "file"])
def test_a_bare_key_is_read_from_every_place(
    store: KeyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, place: str
) -> None:
    text = FORMS[form].decode()
    monkeypatch.setenv("KEY", text)
    monkeypatch.setenv(CREDENTIALS, str(tmp_path))
    (tmp_path / "key").write_text(text + "\n")
    (tmp_path / "key").chmod(0o600)
    source = {place: "KEY" if place == "env" else "key"}
    assert store.exists("me", source)
    assert store.load("me", source) == SECRET
    if place == "file":
        (tmp_path / "key").chmod(0o644)
        with pytest.raises(Refused, match="0644"):
            store.load("me", source)


def test_a_key_file_can_be_a_credential(store: KeyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "producer-key").write_bytes(keyfile.seal(SECRET, b"correct horse", SystemEntropy()))
    monkeypatch.setenv(CREDENTIALS, str(tmp_path))
    assert store.load("me", {"credential": "producer-key"}) == SECRET
    assert store.generate("me", {"credential": "producer-key"}) == SECRET


@pytest.mark.parametrize("source", [{"env": "NOWHERE"}, {"credential": "nowhere"}])
def test_places_others_fill_are_never_written(store: KeyStore, source: dict[str, str], tmp_path: Path) -> None:
    assert not store.exists("me", source)
    with pytest.raises(Refused, match="filled by others"):
        store.generate("me", source)
    with pytest.raises(Refused, match="does not exist"):
        store.load("me", source)
    with pytest.raises(Refused):
        store.archive("me", source, datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(Refused):
        store.restore("me", source, tmp_path / "x", b"p")


@pytest.mark.row("P-ID-14")
@pytest.mark.parametrize(
    "content",
    [
        SECRET,
        SECRET.hex().encode() + b"0",
        SECRET.hex().encode()[:-1],
        FORMS["wif"][:-1] + b"x",
        b"5" + FORMS["wif"],
        json.dumps({"header": SECRET.hex(), "ciphertext": SECRET.hex()}).encode(),
    ],
)
def test_an_unreadable_key_is_not_repeated_in_the_error(store: KeyStore, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(Refused) as caught:
        store.load("me", {"file": "key"})
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(caught.value.hint)
    assert content.decode("latin-1")[:-1] not in said
    assert_no_secret(said.encode())


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "me#sub"])
def test_a_name_cannot_lead_out_of_the_directory(store: KeyStore, name: str) -> None:
    with pytest.raises(Refused, match="as the name of a key"):
        store.path(name, {})


def test_secrets_are_read_as_text_without_its_line_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "abc")
    assert read_secret({"env": "TOKEN"}) == b"abc"
    assert bearer(Endpoint("taal", "https://x", secret={"env": "TOKEN"})) == {"authorization": "Bearer abc"}
    assert bearer(Endpoint("taal", "https://x")) == {}
    monkeypatch.setenv("TOKEN", "a\nb")
    with pytest.raises(Refused, match="in a header") as caught:
        bearer(Endpoint("taal", "https://x", secret={"env": "TOKEN"}))
    assert "a\nb" not in str(caught.value)
    for source in ({}, {"env": "NOT_SET"}, {"file": str(tmp_path / "no")}, {"credential": "x"}):
        with pytest.raises(Refused) as caught:
            read_secret(source)
        assert caught.value.hint
    monkeypatch.setenv(CREDENTIALS, str(tmp_path))
    with pytest.raises(Refused, match="name of a credential"):
        read_secret({"credential": "../x"})


def test_only_small_regular_files_hold_secrets(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * (64 * 1024 + 1))
    big.chmod(0o600)
    with pytest.raises(Refused, match="larger than"):
        private_bytes(big)
    with pytest.raises(Refused, match="not a regular file"):
        private_bytes(Path("/dev/null"))
