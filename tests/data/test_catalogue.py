"""Files that TFDS's own builders name, downloaded by TFDS from a server at hand."""

import functools
import gzip
import http.server
import threading
import urllib.error
import zipfile
from pathlib import Path
from unittest.mock import Mock

import pytest
from tensorflow_datasets.recommendation.criteo.criteo import Criteo
from tensorflow_datasets.recommendation.hillstrom.hillstrom import Hillstrom
from tensorflow_datasets.structured.movielens import Movielens

from jaxmtl.data.reading import catalogue
from jaxmtl.data.reading.catalogue import fetch
from jaxmtl.data.reading.delimited import open_bytes

CONTENT = {
    "Kevin_Hillstrom_MineThatData_E-MailAnalytics"
    "_DataMiningChallenge_2008.03.20.csv": b"recency\r\n10\r\n",
    "criteo-research-uplift-v2.1.csv.gz": gzip.compress(b"f0\n1\n"),
}


@pytest.fixture
def web(monkeypatch):
    """Stands between TFDS and the network; lists what was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(405)  # some servers refuse it
            self.end_headers()

        def do_GET(self):
            asked.append(self.path)
            content = CONTENT.get(self.path.rpartition("/")[2])
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(
        target=functools.partial(server.serve_forever, 0.02), daemon=True
    ).start()
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield asked
    server.shutdown()


@pytest.mark.parametrize(
    ("builder", "content"),
    [(Hillstrom, b"recency\r\n10\r\n"), (Criteo, b"f0\n1\n")],
    ids=["plain", "gzipped"],
)
def test_a_builders_file_is_downloaded_once(tmp_path, web, builder, content):
    make_builder = functools.partial(builder, data_dir=tmp_path)
    file = fetch(make_builder, "")
    with open_bytes(file) as opened:
        assert opened.read() == content
    assert fetch(make_builder, "") == file
    assert len(web) == 1


def make_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-100k/u.data", "196\t242\t3\t881250949\n")


def test_an_archive_is_unpacked_once(tmp_path, monkeypatch):
    def download(self, url):
        assert url == "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
        make_archive(tmp_path / "ml-100k.aB1_2.zip")
        return tmp_path / "ml-100k.aB1_2.zip"

    monkeypatch.setattr("urllib.request.OpenerDirector.open", Mock())
    monkeypatch.setattr(
        "tensorflow_datasets.download.DownloadManager.download", download
    )
    make_builder = functools.partial(Movielens, data_dir=tmp_path)
    for _ in range(2):  # what is unpacked stays
        folder = fetch(make_builder, "", config="100k-ratings")
        assert (folder / "ml-100k" / "u.data").read_text().startswith("196\t242")


def test_an_archive_unpacked_meanwhile_by_another_process_is_taken(
    tmp_path, monkeypatch
):
    make_archive(tmp_path / "ml.zip")
    check = catalogue._refuse_outside

    def race(packed):
        check(packed)
        (tmp_path / "ml" / "ml-100k").mkdir(parents=True)
        (tmp_path / "ml" / "ml-100k" / "u.data").write_text("theirs")

    monkeypatch.setattr(catalogue, "_refuse_outside", race)
    folder = catalogue._unpack(tmp_path / "ml.zip")
    assert (folder / "ml-100k" / "u.data").read_text() == "theirs"
    assert {path.name for path in tmp_path.iterdir()} == {"ml.zip", "ml"}


def test_a_download_with_another_checksum_is_refused(tmp_path, monkeypatch, web):
    monkeypatch.setitem(CONTENT, "ml-100k.zip", b"another file")
    make_builder = functools.partial(Movielens, data_dir=tmp_path)
    config = Movielens.builder_configs["100k-ratings"]
    url = "http://files.grouplens.org/datasets/movielens/ml-100k.zip"
    secure = url.replace("http:", "https:")
    assert config.download_url == secure
    monkeypatch.setattr(config, "_download_url", url)  # the test's server is plain
    infos = dict(Movielens.url_infos)
    monkeypatch.setattr(Movielens, "url_infos", {url: infos[secure]})
    with pytest.raises(ValueError, match=r"movielens: .*has wrong checksum"):
        fetch(make_builder, "", config="100k-ratings")


def test_a_failed_download_says_what_else_to_do(tmp_path, web, monkeypatch):
    monkeypatch.delitem(CONTENT, "criteo-research-uplift-v2.1.csv.gz")
    make_builder = functools.partial(Criteo, data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"TFDS could not .* criteo: .*; ask Criteo"):
        fetch(make_builder, "ask Criteo")


def test_without_a_connection_nothing_is_tried_again(tmp_path, web, monkeypatch):
    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", unreachable)
    make_builder = functools.partial(Hillstrom, data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"hillstrom: .*no route to host.*; copy it"):
        fetch(make_builder, "copy it")
    assert web == []
