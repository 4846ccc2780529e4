"""Every decoder under a fuzzer that sees coverage: seeded, bounded in runs, time per input and memory.

RECONCILER_SOAK_RUNS says how many inputs each decoder is given. Figures are in docs/explanation/soak.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.property.decoders import decoders, samples, words_of

RUNS = int(os.environ.get("RECONCILER_SOAK_RUNS", "200000"))
SEED = 20
# An input that takes longer, or a process that needs more, is a finding like any other.
SECONDS_PER_INPUT, MEMORY_MIB, LARGEST = 5, 512, 8192
ROOT = Path(__file__).parents[2]

pytest.importorskip("atheris", reason="the fuzzer is installed by `make soak`")


def dictionary(name: str, path: Path) -> Path:
    """What the decoder's own file speaks of, as libFuzzer reads it."""
    lines = ["".join(f"\\x{byte:02x}" for byte in word.encode()) for word in words_of(name)]
    path.write_text("".join(f'"{line}"\n' for line in lines))
    return path


@pytest.mark.parametrize("name", sorted(decoders()))
def test_a_decoder_survives_the_fuzzer(name: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, sample in enumerate(samples()):
        for front in range(3):  # what stands before the content chooses a status or a media type
            (corpus / f"{number:03}-{front}").write_bytes(bytes([front]) * bool(front) + sample)
    flags = [
        f"-runs={RUNS}",
        f"-seed={SEED}",
        f"-max_len={LARGEST}",
        f"-timeout={SECONDS_PER_INPUT}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-dict={dictionary(name, tmp_path / 'words')}",
    ]
    words = [
        sys.executable,
        "-m",
        "tests.soak.fuzz",
        name,
        str(corpus),
        *flags,
        "-print_final_stats=1",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
    covered = re.findall(r"cov: (\d+)", done.stderr) or ["0"]
    assert int(stats["number_of_executed_units"]) >= RUNS
    print(
        f"  {name:40} {int(stats['number_of_executed_units']):>9,} inputs  {covered[0]:>4} -> {covered[-1]:>4} edges  "
        f"{stats['peak_rss_mb']:>4} MiB",
        flush=True,
    )
