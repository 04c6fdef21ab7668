"""Storage servers that a test starts for itself, on ports of their own."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

SECRET = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "any-1"}


@contextmanager
def s3(folder):
    """Moto's server with one bucket: a DVC remote's address, its settings, and who may use it."""
    if None in map(find_spec, ("moto", "boto3", "dvc_s3")):
        pytest.skip("the extra `remotes` is not installed")
    import boto3

    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, folder / "s3.log"):
        address = f"http://127.0.0.1:{port}"
        account = {key.lower(): value for key, value in SECRET.items() if "REGION" not in key}
        client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **account)
        client.create_bucket(Bucket="store")
        yield "s3://store/of this study", {"endpointurl": address}, SECRET


@contextmanager
def ssh(folder):
    """OpenSSH's server for the current user: the same three."""
    server = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if server is None or find_spec("dvc_ssh") is None:
        pytest.skip("OpenSSH's server or the extra `remotes` is not installed")
    if os.getuid() == 0:
        # it gives up the rights of root in there
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(make, check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    port = free_port()
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized",
        "PidFile": "none",
        # the folders of tests are readable by all
        "StrictModes": "no",
        "Subsystem": "sftp internal-sftp",
    }
    config = folder / "config"
    config.write_text("".join(f"{key} {value}\n" for key, value in options.items()))
    command = [server, "-D", "-e", "-f", str(config)]
    with running(command, port, folder / "ssh.log"):
        settings = {"keyfile": str(folder / "user"), "user": getpass.getuser(), "port": str(port)}
        yield f"ssh://127.0.0.1{folder}/store", settings, {}


@contextmanager
def running(command, port, log):
    """The server until the end of the test, once it answers."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as server:
        try:
            ends = time.monotonic() + 60
            while not answers(port):
                if server.poll() is not None or time.monotonic() > ends:
                    raise AssertionError(f"{command[0]} does not answer: {log.read_text()}")
                time.sleep(0.1)
            yield
        finally:
            server.terminate()


def answers(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
