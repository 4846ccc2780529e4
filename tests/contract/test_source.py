"""The Source port over a directory: whole readings, stable identities, nothing from outside the root."""

import asyncio
import hashlib
import os
import time
from pathlib import Path

import pytest

from reconciler.adapters.files import DirectorySource, media_type
from reconciler.model.errors import Refused, Unavailable

OLD = 1_700_000_000_000_000_000  # a time stamp far enough back for the cache to trust


def write(path: Path, text: str | bytes, *, at: int = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, ns=(at, at))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    home = tmp_path / "root"
    write(home / "a.yaml", "a: 1\n")
    write(home / "sub/b.yml", "b: 2\n")
    write(home / "sub/notes.txt", "no manifest\n")
    write(home / ".git/c.yaml", "hidden: true\n")
    write(home / ".hidden.yaml", "hidden: true\n")
    return home


def test_a_reading_holds_every_manifest_and_only_those(root: Path) -> None:
    revision = DirectorySource(root).current()
    assert dict(revision.texts) == {"a.yaml": b"a: 1\n", "sub/b.yml": b"b: 2\n"}
    assert list(revision.texts) == sorted(revision.texts)
    assert revision.root == root
    lines = "".join(f"{path}\0{hashlib.sha256(text).hexdigest()}\n" for path, text in sorted(revision.texts.items()))
    assert revision.id == "dir@" + hashlib.sha256(lines.encode()).hexdigest()[:12]


def test_patterns_choose_by_name_or_by_path(root: Path) -> None:
    assert list(DirectorySource(root, ("*.yml",)).current().texts) == ["sub/b.yml"]
    assert list(DirectorySource(root, ("sub/*",)).current().texts) == ["sub/b.yml", "sub/notes.txt"]


def test_the_identity_follows_content_and_paths_not_times(root: Path) -> None:
    source = DirectorySource(root)
    first = source.current().id
    write(root / "a.yaml", "a: 1\n", at=OLD + 5_000_000_000)
    assert source.current().id == first
    assert DirectorySource(root).current().id == first
    write(root / "a.yaml", "a: 2\n", at=OLD + 6_000_000_000)
    second = source.current()
    assert second.id != first
    assert second.texts["a.yaml"] == b"a: 2\n"
    (root / "a.yaml").rename(root / "z.yaml")
    assert source.current().id not in (first, second.id)


def test_a_change_within_one_tick_of_the_clock_is_not_missed(root: Path) -> None:
    """Same size, same inode, and a time stamp that may not have moved: only young files can be in that state."""
    source = DirectorySource(root)
    for digit in "123456789":
        (root / "a.yaml").write_text(f"a: {digit}\n")
        assert source.current().texts["a.yaml"] == f"a: {digit}\n".encode()


def test_a_known_file_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DirectorySource(root)
    before = source.current()
    source.facts("**/*.txt")

    # Change times are the present, so the cache trusts nothing yet; pretend that a minute has passed.
    class Later:
        def now(self):
            from datetime import UTC, datetime, timedelta

            return datetime.now(UTC) + timedelta(minutes=1)

    source._clock = Later()
    source.current()
    source.facts("**/*.txt")
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"read {self} again"))
    monkeypatch.setattr(Path, "open", lambda self, *args: pytest.fail(f"opened {self} again"))
    assert source.current() == before
    assert [fact.path for fact in source.facts("**/*.txt")] == ["sub/notes.txt"]


@pytest.mark.slow
def test_a_warm_reading_of_ten_thousand_manifests_is_cheap(tmp_path: Path) -> None:
    for number in range(10_000):
        write(tmp_path / f"d{number % 100}/f{number}.yaml", f"n: {number}\n")
    source = DirectorySource(tmp_path)
    began = time.perf_counter()
    cold = source.current()
    middle = time.perf_counter()
    warm = source.current()
    end = time.perf_counter()
    print(f"cold {middle - began:.3f} s, warm {end - middle:.3f} s")
    assert warm == cold
    assert len(warm.texts) == 10_000
    assert end - middle < 2


@pytest.mark.parametrize("break_it", ["missing root", "unreadable", "directory"])
def test_a_source_that_cannot_be_read_whole_is_unavailable(root: Path, break_it: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DirectorySource(root / "nowhere" if break_it == "missing root" else root)
    if break_it == "unreadable":  # permissions do not stop the superuser, so the failure is the file system's

        def fail(self: Path) -> bytes:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Path, "read_bytes", fail)
    if break_it == "directory":

        def gone(path: str):
            raise FileNotFoundError(2, "No such file or directory")

        monkeypatch.setattr("os.scandir", gone)
    with pytest.raises(Unavailable, match="cannot read"):
        source.current()


def test_a_manifest_that_is_no_file_is_refused(root: Path) -> None:
    os.mkfifo(root / "pipe.yaml")
    with pytest.raises(Refused, match="not a regular file"):
        DirectorySource(root).current()


def test_links_inside_the_root_are_followed_and_links_out_of_it_refused(root: Path, tmp_path: Path) -> None:
    # A mounted ConfigMap: a name links to a dot-directory that is swapped as a whole.
    write(root / "..data/mounted.yaml", "m: 1\n")
    (root / "mounted.yaml").symlink_to("..data/mounted.yaml")
    assert DirectorySource(root).current().texts["mounted.yaml"] == b"m: 1\n"
    outside = write(tmp_path / "secret.yaml", "s: 1\n")
    (root / "leak.yaml").symlink_to(outside)
    with pytest.raises(Refused, match="leads out of"):
        DirectorySource(root).current()
    (root / "leak.yaml").unlink()
    (root / "leak").symlink_to(tmp_path)
    with pytest.raises(Refused, match="leads out of"):
        DirectorySource(root).current()


def test_facts_are_hashed_sorted_and_typed(root: Path) -> None:
    write(root / "data/b.csv", "x,y\n")
    write(root / "data/a.parquet", b"PAR1")
    write(root / "data/deep/c.ndjson.gz", b"\x1f\x8b")
    write(root / "data/.hidden.csv", "no")
    facts = DirectorySource(root).facts("data/**/*")
    assert [(fact.path, fact.size, fact.media_type) for fact in facts] == [
        ("data/a.parquet", 4, "application/vnd.apache.parquet"),
        ("data/b.csv", 4, "text/csv"),
        ("data/deep/c.ndjson.gz", 2, "application/gzip"),
    ]
    assert facts[1].sha256 == hashlib.sha256(b"x,y\n").hexdigest()


def test_facts_follow_changed_bytes(root: Path) -> None:
    source = DirectorySource(root)
    path = write(root / "data.csv", "1")
    first = source.facts("data.csv")[0].sha256
    path.write_text("2")
    assert source.facts("data.csv")[0].sha256 != first


@pytest.mark.parametrize("pattern", ["../*", "/etc/passwd", "sub/../../x", ""])
def test_a_pattern_that_leaves_the_root_is_refused(root: Path, pattern: str) -> None:
    with pytest.raises(Refused, match="leaves the source directory"):
        DirectorySource(root).facts(pattern)


def test_content_behind_a_link_out_of_the_root_is_refused(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "out/secret.csv", "s")
    (root / "direct.csv").symlink_to(tmp_path / "out/secret.csv")
    with pytest.raises(Refused, match="leads out of"):
        DirectorySource(root).facts("*.csv")
    (root / "direct.csv").unlink()
    (root / "far").symlink_to(tmp_path / "out")
    with pytest.raises(Refused, match="leads out of"):
        DirectorySource(root).facts("far/*.csv")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.CSV", "text/csv"),
        ("x", "application/octet-stream"),
        ("x.png", "image/png"),
        ("x.tar.bz2", "application/x-bzip2"),
        ("x.yml", "application/yaml"),
    ],
)
def test_media_types_do_not_depend_on_the_machine(name: str, expected: str) -> None:
    assert media_type(name) == expected


@pytest.mark.parametrize("relative", [False, True])
def test_a_hint_comes_after_a_burst_and_dot_directories_are_silent(
    root: Path, relative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)

    async def watch() -> int:
        hints = aiter(DirectorySource(Path() if relative else root).revisions())
        hint = asyncio.ensure_future(anext(hints))
        await asyncio.sleep(0)  # the watcher is set up in the task's first step
        for number in range(20):
            (root / ".git" / f"x{number}").write_text("x")
        done, _ = await asyncio.wait({hint}, timeout=0.6)
        assert not done, "the repository's own files are no change"
        for number in range(20):
            (root / "a.yaml").write_text(f"a: {number}\n")
        await asyncio.wait_for(hint, timeout=10)
        more = asyncio.ensure_future(anext(hints))
        extra, _ = await asyncio.wait({more}, timeout=0.6)
        more.cancel()
        await asyncio.gather(more, return_exceptions=True)
        await hints.aclose()
        return 1 + len(extra)

    # A busy machine may tear the burst in two, but twenty writes are not twenty hints.
    assert asyncio.run(watch()) <= 2
