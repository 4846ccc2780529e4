"""The Blobs port on disk: content by digest, whole or absent, and nobody else's business."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from reconciler.adapters.blobs import BlobDirectory
from reconciler.adapters.copying import BLOCK, Partial, part_of
from reconciler.model.errors import Conflict, Refused, Unavailable


@pytest.fixture
def blobs(tmp_path: Path) -> BlobDirectory:
    return BlobDirectory(tmp_path / "blobs")


def leftovers(blobs: BlobDirectory) -> list[Path]:
    return [path for path in blobs.root.rglob("*") if path.is_file() and len(path.name) != 64]


def test_what_is_put_is_got(blobs: BlobDirectory) -> None:
    for content in (b"", b"hello", os.urandom(3_000_000)):
        sha256 = blobs.put(content)
        assert sha256 == hashlib.sha256(content).hexdigest()
        assert blobs.has(sha256)
        assert blobs.get(sha256) == content
        assert blobs.path(sha256) == blobs.root / sha256[:2] / sha256
        assert blobs.put(content) == sha256
    assert leftovers(blobs) == []


def test_files_and_directories_are_their_owners_only(blobs: BlobDirectory) -> None:
    path = blobs.path(blobs.put(b"private"))
    modes = [stat.S_IMODE(place.stat().st_mode) for place in (path, path.parent, blobs.root)]
    assert modes == [0o600, 0o700, 0o700]


def test_a_file_is_adopted_only_as_the_bytes_that_were_promised(blobs: BlobDirectory, tmp_path: Path) -> None:
    source = tmp_path / "data.csv"
    source.write_bytes(b"1,2\n" * 500_000)
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    source.write_bytes(b"1,3\n" * 500_000)
    with pytest.raises(Conflict, match="digest"):
        blobs.adopt(source, sha256)
    assert not blobs.has(sha256)
    assert leftovers(blobs) == []
    source.write_bytes(b"1,2\n" * 500_000)
    blobs.adopt(source, sha256)
    blobs.adopt(source, sha256)
    source.unlink()
    assert blobs.get(sha256) == b"1,2\n" * 500_000
    with pytest.raises(Conflict, match="cannot copy"):
        blobs.adopt(source, "00" * 32)


def test_a_blob_the_disk_changed_is_a_conflict(blobs: BlobDirectory) -> None:
    sha256 = blobs.put(b"hello")
    blobs.path(sha256).write_bytes(b"hellp")
    with pytest.raises(Conflict, match="no longer what they were"):
        blobs.get(sha256)


def test_a_blob_that_was_never_put_is_refused(blobs: BlobDirectory) -> None:
    assert not blobs.has("ab" * 32)
    with pytest.raises(Refused, match="cannot find blob"):
        blobs.get("ab" * 32)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "AB" * 32, "a" * 63, "a" * 65, "/" * 64])
def test_only_digests_name_blobs(blobs: BlobDirectory, name: str) -> None:
    with pytest.raises(Refused, match="as a digest"):
        blobs.get(name)


def test_bytes_are_on_disk_before_their_name_is(blobs: BlobDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order fsync(file), rename, fsync(directory) is what makes a blob whole or absent after a crash."""
    steps: list[str] = []
    real_sync, real_rename = os.fsync, Path.rename

    def sync(handle: int) -> None:
        steps.append("fsync dir" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync file")
        real_sync(handle)

    def rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return real_rename(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "rename", rename)
    blobs.put(b"hello")
    assert steps == ["fsync dir", "fsync file", "rename", "fsync dir"], "the first is for the new directory itself"


def test_a_full_disk_is_unavailable_and_leaves_nothing(blobs: BlobDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        blobs.put(b"hello")
    assert leftovers(blobs) == []
    assert not blobs.has(hashlib.sha256(b"hello").hexdigest())


def test_a_copy_that_was_cut_off_is_gone_on_with(blobs: BlobDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(5 * BLOCK)
    source, sha256 = tmp_path / "data.csv", hashlib.sha256(content).hexdigest()
    source.write_bytes(content)
    part = part_of(blobs.path(sha256))
    part.parent.mkdir(parents=True)
    part.write_bytes(content[: 3 * BLOCK])
    written: list[int] = []
    monkeypatch.setattr(Partial, "write", lambda self, block: written.append(os.write(self.handle, block)))
    blobs.adopt(source, sha256)
    assert sum(written) == 2 * BLOCK
    assert blobs.get(sha256) == content
    assert leftovers(blobs) == []
