"""procview metrics: once, over TCP, and scraped by a real Prometheus."""

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import procview
from tests.daemon.process import Place, eventually, needs_mount, place
from tests.programs import required
from tests.session import environment_with_modules
from tests.timing import patient

__all__ = ["place"]

pytestmark = needs_mount

INFO = f'procview_build_info{{version="{procview.__version__}"}} 1.0\n'


def _argv(place: Place, *options: str) -> list[str]:
    argv = [sys.executable, "-m", "procview", "metrics", "--config", str(place.config)]
    return [*argv, "--run-directory", str(place.run_directory), *options]


@contextmanager
def _listening(place: Place, address: str = "127.0.0.1:0") -> Iterator[str]:
    """Where it answers."""
    argv = _argv(place, "--listen", address)
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment_with_modules()) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("procview: metrics are at http://"), line
            yield line.split()[-1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(patient(20)) == 0
        finally:
            process.kill()


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=patient(10)) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_once(place: Place) -> None:
    place.start().says("control socket: ")
    said = subprocess.run(_argv(place), capture_output=True, text=True, timeout=patient(30), check=True).stdout
    assert INFO in said


def test_without_a_daemon_it_says_so(place: Place) -> None:
    place.config.write_text("")
    done = subprocess.run(_argv(place), capture_output=True, text=True, timeout=patient(30), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is the daemon running?" in done.stderr


@pytest.mark.parametrize("address", ["9273", ":9273", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:x"])
def test_an_address_that_is_none_is_refused(place: Place, address: str) -> None:
    done = subprocess.run(
        _argv(place, "--listen", address), capture_output=True, text=True, timeout=patient(30), check=False
    )
    assert done.returncode == 2
    assert "is no address and port, like 127.0.0.1:9273" in done.stderr


def test_a_port_that_is_taken_is_named(place: Place) -> None:
    place.config.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = subprocess.run(
            _argv(place, "--listen", address), capture_output=True, text=True, timeout=patient(30), check=False
        )
    assert done.returncode == 1
    assert f"cannot listen on {address}: Address already in use" in done.stderr


def test_over_tcp_and_while_the_daemon_is_away(place: Place) -> None:
    daemon = place.start()
    daemon.says("control socket: ")
    with _listening(place) as url:
        status, text = _get(url)
        assert (status, INFO in text) == (200, True)
        assert _get(url.replace("/metrics", "/")) == (404, "there is /metrics\n")
        daemon.stop()
        status, text = _get(url)
        assert (status, "is the daemon running?" in text) == (503, True)
        place.start().says("control socket: ")
        assert _get(url)[0] == 200


def test_prometheus_scrapes_it(place: Place, tmp_path: Path) -> None:
    prometheus = required("prometheus", "prometheus")
    place.start().says("control socket: ")
    with socket.create_server(("127.0.0.1", 0)) as free:
        own = f"127.0.0.1:{free.getsockname()[1]}"
    with _listening(place) as url:
        job = {"job_name": "procview", "static_configs": [{"targets": [url.split("/")[2]]}]}
        (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job | {"scrape_interval": "5s"}]}))
        argv = [prometheus, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
        with (
            (tmp_path / "log").open("wb") as log,
            subprocess.Popen([*argv, f"--web.listen-address={own}"], stdout=log, stderr=log) as scraping,
        ):
            try:
                eventually(lambda: _asked(own, "procview_build_info"), "the scrape")
                assert _asked(own, 'up{job="procview"}')[0]["value"][1] == "1"
                assert _asked(own, "procview_published_seconds")[0]["metric"]["job"] == "procview"
            finally:
                scraping.kill()


def _asked(address: str, expression: str) -> list[dict[str, Any]]:
    """What a Prometheus says; nothing while it does not answer."""
    try:
        status, text = _get(f"http://{address}/api/v1/query?query={quote(expression)}")
    except OSError:
        return []
    result: list[dict[str, Any]] = json.loads(text)["data"]["result"] if status == 200 else []
    return result
