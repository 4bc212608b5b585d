"""`python tether.py WAY PARENT PROGRAM ARG...`: becomes a program that must not outlive its parent.

It does so by exec: the pid that the parent sees is the program's own.
WAY `kernel` (Linux): the kernel sends the program SIGKILL when its parent dies (PR_SET_PDEATHSIG).
  It survives exec. The parent is the *thread* that forked: fork from one that ends with the process.
WAY `pipe` (elsewhere): a small watcher process reads stdin, a pipe whose other end only the parent has, and
  sends the program SIGKILL when that ends.
Nothing of tokentide is imported here: this runs once for each node, with `python -I -S`, and has to be quick.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    way, parent, *command = sys.argv[1:]
    if way == "kernel":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != int(parent):
            sys.exit("the parent died before the program was started")
    else:
        watched = os.getpid()
        if os.fork() == 0:
            watch(watched)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


def watch(program: int) -> None:
    """Wait for the end of stdin and then kill the program, if it is still there."""
    os.setsid()
    # Keep no other descriptor open: the program's lock and log are not ours.
    os.closerange(1, 1024)
    while os.read(0, 1024):
        pass
    # When the program has ended before its parent, we are another one's child, and its number may be too.
    if os.getppid() == program:
        os.kill(program, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
