"""Commands that fork from a process in which everything is loaded.

Loading torch takes longer than most jobs of the smaller tiers. A workflow therefore starts one
`serve`; a command that finds its socket in the environment hands over its arguments, folder,
environment and standard streams, and ends as its fork ends. Each command still runs in a process
of its own. Where there is no server, a command runs as it is; it waits for one that still loads,
which takes no longer than to load the same beside it.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import domain_experts
from domain_experts.digest import PACKAGE, hold

ADDRESS = "DOMAIN_EXPERTS_FORKS"
"""Environment variable with the path of the server's socket."""
LENGTH = 4
"""Bytes that say how long a request is."""


def start(address: Path) -> None:
    """Start a server, which lives until the process that called this ends.

    Other systems than Linux do not fork what has loaded such libraries: there is no server.
    """
    if sys.platform != "linux":
        return
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    # the pipe closes with this process, whatever ends it
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, str(address)],
        stdin=subprocess.PIPE,
        env=os.environ | one_thread,
    )
    atexit.register(server.communicate)


def hand_over(arguments: list[str]) -> int | None:
    """Exit status of a command that the server runs, or None if there is none to run it."""
    address = os.environ.pop(ADDRESS, None)
    if address is None:
        return None
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        # an interrupt reaches the fork, too, which ends by it
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        request = json.dumps([arguments, str(Path.cwd()), dict(os.environ)]).encode()
        socket.send_fds(server, [len(request).to_bytes(LENGTH)], [0, 1, 2])
        server.sendall(request)
        return int.from_bytes(server.recv(1) or bytes([128 + signal.SIGKILL]))


def serve(address: Path) -> None:
    """Fork for each command until standard input closes, then exit; returns in the forks."""
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        # an interrupt is the commands' to handle, and the keepers' ends interest nobody
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _load()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            client = listener.accept()[0]
            if os.fork() == 0:
                listener.close()
                _keep(client)
                return
            client.close()
    address.unlink()
    # nothing is left to write, and to take down what is loaded takes longer
    os._exit(0)


def _load() -> None:
    """Import all of this package, and digest the code that is loaded, not what comes later."""
    # all that is made here stays: to look through it for what does not takes a second
    gc.disable()
    modules = [m.name for m in pkgutil.walk_packages(domain_experts.__path__, f"{PACKAGE}.")]
    hold(modules)
    for name in modules:
        importlib.import_module(name)
    # a collection in a fork would copy all of it
    gc.freeze()
    gc.enable()


def _keep(client: socket.socket) -> None:
    """Fork once more: the child returns as the command, the parent sees to its end and reports."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    header, streams, _, _ = socket.recv_fds(client, LENGTH, 3)
    with client.makefile("rb") as request:
        arguments, folder, environment = json.loads(request.read(int.from_bytes(header)))
    command = os.fork()
    if command == 0:
        client.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[1:] = arguments
        return
    for stream in streams:
        os.close(stream)
    # a client says nothing more: it can only go
    ended, _, _ = select.select([client.fileno(), os.pidfd_open(command)], [], [])
    if client.fileno() in ended:
        os.kill(command, signal.SIGTERM)
    else:
        status = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
        client.sendall(bytes([status if status >= 0 else 128 - status]))
    os._exit(0)


def _end_with(command: Callable[[], None]) -> NoReturn:
    """Run a command and be gone: taking down what is loaded takes longer than many commands."""
    status: str | int | None = None
    try:
        command()
    except SystemExit as end:
        status = end.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
    # not before: it imports this module by its name
    from domain_experts.cli import main

    _end_with(main)
