"""Free ports: nobody gets one that another process of ours is about to use."""

import subprocess
import sys
from contextlib import ExitStack

from tokentide.console.kafka.ports import free_ports, ports_in_a_row

CHOOSER = """
import sys
from tokentide.console.kafka.ports import free_ports
sys.stdin.readline()
print(*free_ports(500), flush=True)
sys.stdin.readline()
"""


def test_processes_that_choose_at_the_same_moment_get_different_ports() -> None:
    with ExitStack() as running:
        choosers = [
            running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CHOOSER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(4)
        ]
        pipes = [(chooser.stdin, chooser.stdout) for chooser in choosers]
        for stdin, _ in pipes:
            assert stdin is not None
            print(file=stdin, flush=True)

        chosen = [port for _, stdout in pipes if stdout is not None for port in stdout.readline().split()]

        assert len(chosen) == len(set(chosen)) == 2000
        for stdin, _ in pipes:
            assert stdin is not None
            print(file=stdin, flush=True)
        assert [chooser.wait(20) for chooser in choosers] == [0] * 4


def test_a_process_is_not_given_a_port_twice() -> None:
    first = free_ports(300)

    second = free_ports(300)

    assert set(first).isdisjoint(second)


def test_ports_in_a_row_are_given_to_nobody_else() -> None:
    found = [ports_in_a_row(3) for _ in range(50)]

    given = [port for first in found for port in range(first, first + 3)]
    assert len(set(given)) == 150
    assert set(given).isdisjoint(free_ports(500))
