"""The server's folders and its check of the host's log, without a server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import psutil
import pytest

from devtools.server.client import PromptError, PromptInterrupted, _check, refusal, seconds
from devtools.server.server import FOLDERS, Server, ServerError, free_port, lay_out, link


def test_the_base_directory_is_laid_out_again_and_again(tmp_path):
    for _ in range(2):
        lay_out(tmp_path)
    assert all((tmp_path / folder).is_dir() for folder in FOLDERS)
    assert (tmp_path / "custom_nodes" / "semantic-steering" / "nodes" / "sega.py").exists()
    assert (tmp_path / "custom_nodes" / "semantic-steering-demo" / "portraits_model.py").exists()
    assert (tmp_path / "models" / "loras" / "smile.safetensors").exists()


def test_a_link_follows_its_target(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        link(tmp_path / "link", tmp_path / name)
        assert (tmp_path / "link").samefile(tmp_path / name)
    (tmp_path / "two").rmdir()
    link(tmp_path / "link", tmp_path / "one")  # what it led to is gone
    assert (tmp_path / "link").samefile(tmp_path / "one")


def test_a_pack_that_does_not_import_is_an_error(tmp_path):
    server = Server(tmp_path, port=1)
    server.log_file.write_text("IMPORT FAILED: nodes_glsl.py\n   0.1 seconds: custom_nodes/semantic-steering\n")
    server._check_imports()  # one of the host's own, for want of an optional package
    for line in (
        "Cannot import base/custom_nodes/semantic-steering module for custom nodes: No module named 'x'",
        "   0.1 seconds (IMPORT FAILED): base/custom_nodes/semantic-steering",
    ):
        server.log_file.write_text(line)
        with pytest.raises(ServerError, match="could not import a pack"):
            server._check_imports()


def test_a_server_that_ends_at_once_shows_its_log(tmp_path, monkeypatch):
    (tmp_path / "main.py").write_text("raise SystemExit('the port is taken')")
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    with pytest.raises(ServerError, match=r"(?s)ended with code 1.*the port is taken"), Server(tmp_path):
        pass


STAND_IN = """
import http.server, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
pathlib.Path("child").write_text(str(child.pid))

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Answer).serve_forever()
"""


def test_the_server_is_stopped_with_its_children(tmp_path, monkeypatch):
    (tmp_path / "main.py").write_text(STAND_IN)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    with Server(tmp_path) as server:
        child = psutil.Process(int((tmp_path / "child").read_text()))
        assert child.is_running()
    with pytest.raises(OSError, match="refused"):
        server.client.get("/system_stats")
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_an_interruption_just_before_the_block_stops_the_server_too(tmp_path, monkeypatch):
    (tmp_path / "main.py").write_text(STAND_IN)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)

    def interrupted(text):
        raise KeyboardInterrupt

    monkeypatch.setattr("devtools.server.server.say", interrupted)
    server = Server(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        server.__enter__()
    with pytest.raises(OSError, match="refused"):
        server.client.get("/system_stats")


TERMINATED = """
import pathlib, signal, sys, time
from devtools.server.server import Server, leave_when_terminated
leave_when_terminated()
with Server(pathlib.Path(sys.argv[1])) as server:
    server.wait()
"""


def test_requests_to_terminate_end_the_server_however_many_come(tmp_path, monkeypatch, root):
    (tmp_path / "main.py").write_text(STAND_IN)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    with psutil.Popen([sys.executable, "-c", TERMINATED, str(tmp_path)], cwd=root, stderr=subprocess.PIPE) as process:
        process.stderr.readline()  # it says when the server answers
        servers = process.children(recursive=True)
        assert servers
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            process.terminate()
            time.sleep(0.001)
        assert process.wait(10) == 143
    alive = psutil.wait_procs(servers, timeout=20)[1]
    assert all(child.status() == psutil.STATUS_ZOMBIE for child in alive)


def test_a_free_port_can_be_used():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


def test_refusals_are_told_in_the_hosts_words():
    error = {"message": "Value nan", "details": "scale"}
    answer = {"error": {"message": "x", "details": ""}, "node_errors": {"4": {"class_type": "A", "errors": [error]}}}
    assert refusal(answer) == "node 4 (A): Value nan: scale"
    assert refusal({"error": {"message": "Prompt has no outputs", "details": ""}, "node_errors": {}}) == (
        "Prompt has no outputs"
    )


def test_failures_are_told_in_the_hosts_words():
    where = {"node_id": "4", "node_type": "A"}
    failed = {"exception_type": "ValueError", "exception_message": "text is empty\n", **where}
    entry = {"status": {"status_str": "error", "messages": [["execution_error", failed]]}}
    with pytest.raises(PromptError, match=r"node 4 \(A\): ValueError: text is empty"):
        _check(entry)
    with pytest.raises(PromptInterrupted):
        _check({"status": {"status_str": "error", "messages": [["execution_interrupted", where]]}})


def test_the_time_of_a_prompt():
    messages = [["execution_start", {"timestamp": 1000}], ["execution_success", {"timestamp": 3500}]]
    assert seconds({"status": {"messages": messages}}) == 2.5
