"""The profile for Kubernetes, as far as it can be tried without a cluster.

Object storage is moto's server. The cluster's API is a stand-in that takes every manifest, and says
of every job that it failed.
"""

import json
import os
import re
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import pytest
import servers
from projects import make_smallest

NEEDED = (
    "snakemake_executor_plugin_kubernetes",
    "snakemake_storage_plugin_s3",
    "kubernetes_validate",
)
VERSION = "1.33"
"""Of Kubernetes, by whose schema manifests are valid."""

KINDS = {
    "secrets": {"kind": "Secret", "apiVersion": "v1"},
    "jobs": {"kind": "Job", "apiVersion": "batch/v1"},
}


class StandIn(BaseHTTPRequestHandler):
    """Keeps what is created, and answers as the API does."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # a client may leave out what the address says
        what = KINDS[self.path.rpartition("/")[2]]
        self.server.created.append(what | body)
        self._answer(body)

    def do_GET(self):
        pods = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []}
        failed = {"kind": "Job", "apiVersion": "batch/v1", "metadata": {}, "status": {"failed": 1}}
        self._answer(pods if "/pods" in self.path else failed)

    def do_DELETE(self):
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _answer(self, content):
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Keep quiet."""


@contextmanager
def cluster(folder):
    """The stand-in, and the file by which clients find it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        server.created = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [
                {"name": "it", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
            ],
            "users": [{"name": "me", "user": {"token": "any"}}],
            "contexts": [{"name": "here", "context": {"cluster": "it", "user": "me"}}],
        }
        file = folder / "kubeconfig"
        file.write_text(json.dumps(config))
        try:
            yield server.created, str(file)
        finally:
            server.shutdown()


def test_manifests_are_valid_and_start_each_job_in_the_image(tmp_path):
    if None in map(find_spec, NEEDED):
        pytest.skip("the extra `kubernetes` or kubernetes-validate is not installed")
    import kubernetes_validate

    project = make_smallest(tmp_path / "project")
    project.commit()
    with servers.s3(tmp_path) as (_, settings, _), cluster(tmp_path) as (created, config):
        environment = {
            "KUBECONFIG": config,
            "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": settings["endpointurl"],
            "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "any",
            "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "any",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }
        profile = ("--workflow-profile", "workflow/profiles/kubernetes")
        # a process of its own, since clients read KUBECONFIG when they are imported
        asked = (sys.executable, "-m", "snakemake", "--config", "tier=smoke", *profile)
        asked += ("--default-storage-prefix", "s3://store/study", "--quiet", "rules")
        planned = project.run(*asked, "-n", **environment).stdout
        assert re.search("^train +6$", planned, re.MULTILINE), planned
        failed = project.run(*asked, "--retries", "0", check=False, **environment)
        assert failed.returncode == 1, failed.stdout
    secrets = [one for one in created if one["kind"] == "Secret"]
    jobs = [one for one in created if one["kind"] == "Job"]
    assert len(secrets) == 1
    assert jobs
    for manifest in created:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    for job in jobs:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert container["image"] == "IMAGE"
        assert "--default-storage-prefix" in " ".join(container["args"])
