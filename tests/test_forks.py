"""Commands that fork from a loaded process are as if they ran by themselves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from domain_experts import digest
from domain_experts.digest import code_digest, hold
from domain_experts.forks import ADDRESS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a server on Linux alone")

# a command's first argument is what it does
SERVER = """
import sys
from pathlib import Path
from domain_experts import forks
forks._load = lambda: None
forks.serve(Path(sys.argv[1]))
forks._end_with(lambda: exec(sys.argv[1]))
"""
CLIENT = """
import sys
from domain_experts.forks import hand_over
status = hand_over(sys.argv[1:])
sys.exit("nobody runs it" if status is None else status)
"""


@pytest.fixture
def address(tmp_path):
    found = tmp_path / "s.sock"
    with subprocess.Popen([sys.executable, "-c", SERVER, found], stdin=subprocess.PIPE) as server:
        wait_for(found.is_socket)
        yield found
        server.stdin.close()
        server.wait()
    assert not found.exists(), "a server that ends leaves nothing"


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def client(address, code, **options):
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, code],
        env=os.environ | {ADDRESS: str(address), "ASKED": "yes"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_streams_folder_environment_and_status_are_the_clients(address, tmp_path):
    folder = tmp_path / "my folder"
    folder.mkdir()
    code = (
        "import os; print(input(), os.getcwd(), os.environ['ASKED'], sys.argv[1:] == [sys.argv[1]],"
        f" '{ADDRESS}' in os.environ, os.getppid()); print('oh', file=sys.stderr); sys.exit(7)"
    )
    command = client(address, code, cwd=folder)
    out, err = command.communicate("hello\n")
    assert out.startswith(f"hello {folder} yes True False ") and err == "oh\n"
    assert command.returncode == 7
    assert int(out.split()[-1]) not in (command.pid, os.getpid())


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("pass", 0, ""),
        ("sys.exit('error: mend it')", 1, "error: mend it\n"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 9)", 128 + signal.SIGKILL, ""),
    ],
)
def test_an_end_is_reported(address, code, status, said):
    command = client(address, code)
    assert said in command.communicate()[1]
    assert command.returncode == status


def test_a_killed_client_takes_its_command_with_it(address):
    command = client(address, "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    fork = psutil.Process(int(command.stdout.readline()))
    command.kill()
    command.communicate()
    # an orphan may wait for whoever takes it over
    wait_for(lambda: not fork.is_running() or fork.status() == psutil.STATUS_ZOMBIE)


def test_commands_run_side_by_side_and_interrupts_are_theirs(address):
    waits = (
        "import time\ntry: print('ready', flush=True); time.sleep(600)\n"
        "except KeyboardInterrupt: sys.exit(5)"
    )
    first, second = client(address, waits), client(address, "print('second')")
    assert first.stdout.readline() == "ready\n"
    assert second.communicate()[0] == "second\n"
    (server,) = (p for p in psutil.Process().children() if str(address) in p.cmdline())
    # as a terminal does, to the whole group
    for process in [psutil.Process(first.pid), server, *server.children(recursive=True)]:
        process.send_signal(signal.SIGINT)
    first.communicate()
    assert first.returncode == 5
    third = client(address, "print('third')")
    assert third.communicate()[0] == "third\n", "the server goes on"


@pytest.mark.parametrize("left_over", [False, True])
def test_without_a_server_a_command_runs_by_itself(tmp_path, left_over):
    address = tmp_path / "s.sock"
    if left_over:
        program = f"import socket; socket.socket(socket.AF_UNIX).bind({str(address)!r})"
        subprocess.run([sys.executable, "-c", program], check=True)
        assert address.is_socket()
    assert "nobody runs it" in client(address, "pass").communicate()[1]


def test_code_is_digested_as_it_was_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(digest, "ROOT", tmp_path)
    monkeypatch.setattr(digest, "_HELD", {})
    Path(tmp_path, "__init__.py").touch()
    module = Path(tmp_path, "held.py")
    module.write_text("x = 1\n")
    hold(["domain_experts.held"])
    before = code_digest(["domain_experts.held"])
    module.write_text("x = 2\n")
    assert code_digest(["domain_experts.held"]) == before
