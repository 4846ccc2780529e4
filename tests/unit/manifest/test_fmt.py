import pytest

from reconciler.manifest.fmt import format_text
from reconciler.model.errors import Refused

MESSY = """\
# yaml-language-server: $schema=./.schema/x.json

spec:   # the spec
  title: T

  # about tags
  tags:
    - b   # second letter
    - a
    # after the list

  content: {file: a.csv}
  unknown: 1
  networkRef: local
  # last words
kind: Dataset
# which one
metadata:
  labels:
    z: 1st
    a: 2nd
  name: x   \t
lifecycle:
  maxSpend: 5
  prune: never
apiVersion: overlay.bsv/v1alpha1
# the end
---
kind: Other
b: |
  text   \t
   # kept
a: 1


"""
CLEAN = """\
# yaml-language-server: $schema=./.schema/x.json

apiVersion: overlay.bsv/v1alpha1
kind: Dataset
# which one
metadata:
  name: x
  labels:
    z: 1st
    a: 2nd
spec:   # the spec
  networkRef: local
  # last words
  content: {file: a.csv}
  title: T

  # about tags
  tags:
    - b   # second letter
    - a
    # after the list

  unknown: 1
lifecycle:
  prune: never
  maxSpend: 5
# the end
---
kind: Other
b: |
  text   \t
   # kept
a: 1
"""


def test_keys_take_the_order_of_the_schema_and_comments_go_with_them() -> None:
    result = format_text(MESSY.encode()).decode()
    assert sorted(line.strip() for line in result.splitlines() if line.strip()) == sorted(
        line.strip() for line in MESSY.splitlines() if line.strip()
    )
    assert [line for line in result.splitlines() if line] == [line for line in CLEAN.splitlines() if line]


def test_formatting_twice_is_formatting_once() -> None:
    once = format_text(MESSY.encode())
    assert format_text(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "", "# only a comment\n", "kind: K\n", "- a\n- b\n", "{kind: K, apiVersion: v}\n",
        "a: &x 1\nb: *x\n", "---\nkind: K\n...\n---\nkind: L\n",
    ],
)  # fmt: skip
def test_what_is_in_order_stays(text: str) -> None:
    assert format_text(text.encode()) == text.encode()


def test_an_anchor_is_never_moved_behind_its_alias() -> None:
    text = b"spec:\n  x: &x 1\nmetadata:\n  name: *x\n"
    assert format_text(text) == text


def test_line_ends_and_trailing_blanks_are_mended() -> None:
    assert format_text(b"kind: K  \r\nspec: 1\t\r\n\r\n\r\n") == b"kind: K\nspec: 1\n"
    assert format_text(b"kind: K") == b"kind: K\n"


def test_a_broken_file_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        format_text(b"kind: K\na: [\n")
    assert refused.value.message.startswith("cannot format the file: ")
