"""Any history of edits, crashes and damage ends in the same place: agreement, and not a satoshi unaccounted for.

Hypothesis writes the history: edits of a small repository, processes killed at some durable step, hosts that lose what they
held. Then the faults stop, and what the world holds is compared with what the ledger believes and with what was asked.
"""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from reconciler.devnet.clock import VirtualClock
from reconciler.devnet.world import World
from reconciler.engine.execute import Executor, Fate
from reconciler.engine.recover import recover
from reconciler.model.ref import ResourceRef
from reconciler.model.status import Truth
from reconciler.planner.guard import Limits
from tests.e2e.crash import Fuse, Killed, mortal
from tests.e2e.scene import DATASET, IDENTITY, NETWORK, PRICE, Scene, play
from tests.e2e.test_crash import DESK, OPEN_KEY, PROCESS, SEALED_KEY, WALLET, truth
