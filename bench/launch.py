"""Runs one command with its output thrown away and prints what it took, as JSON: wall, cpu, memory, code.

A process of its own, because Linux counts the memory of whoever starts a process towards the peak of what it starts: only a
small one may start what is weighed. It imports next to nothing for that reason.

    python -I -S bench/launch.py WORD ...
"""

import os
import sys
import time


def main() -> None:
    """Start, wait, tell."""
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            os.execv(sys.argv[1], sys.argv[1:])
        finally:
            os._exit(127)
    _, status, usage = os.wait4(child, 0)
    wall, cpu, memory = time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
    print(f'{{"wall": {wall}, "cpu": {cpu}, "memory": {memory}, "code": {os.waitstatus_to_exitcode(status)}}}')


if __name__ == "__main__":
    main()
