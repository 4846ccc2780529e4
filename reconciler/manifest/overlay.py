"""Environments: `overlays/<env>/` holds patches over the base, merged by kind and name.

A patch merges as RFC 7386 says: mappings deeply, lists replaced whole, null deletes. Every merged document
keeps its layers, so that a fault is shown in the file that wrote the faulty node.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.model.canonical import Json

FOLDER = "overlays"
_EXTENSIONS = (".yaml", ".yml")
# Settings of the process stand beside the manifests, but are none.
_SETTINGS = {"reconciler.yaml", "reconciler.yml"}


def is_manifest(path: str) -> bool:
    """Whether a path (below the source root) names a manifest at all: YAML, not hidden, not the settings file."""
    return path.endswith(_EXTENSIONS) and path not in _SETTINGS and not any(part.startswith(".") for part in path.split("/"))


def split(paths: Iterable[str], environment: str) -> tuple[list[str], list[str]]:
    """(base files, patch files of the environment), each in path order."""
    manifests = sorted(path for path in paths if is_manifest(path))
    base = [path for path in manifests if not path.startswith(f"{FOLDER}/")]
    patches = [path for path in manifests if environment and path.startswith(f"{FOLDER}/{environment}/")]
    return base, patches


def environments(paths: Iterable[str]) -> list[str]:
    """The environments that have at least one patch file."""
    parts = (path.split("/") for path in paths if is_manifest(path))
    return sorted({part[1] for part in parts if len(part) > 2 and part[0] == FOLDER})


def merge(base: Json, patch: Json) -> Json:
    """`patch` over `base`; neither is changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result
