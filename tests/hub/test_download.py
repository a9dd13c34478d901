"""The plain download: cut, continued, changed, refused - and what is left on the disk."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import resnetkit.files
from resnetkit.errors import InputError
from resnetkit.files import sha256_of
from resnetkit.hub import download, download_cache
from resnetkit.hub.download import CHUNK, cached
from server import Server, serving

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def bring(server: Server, target: Path, sha256: str | None = SHA256) -> str:
    return download.download(f"{server.url}/net.pth", target, sha256=sha256)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix not in (".lock", ".json")}


def test_a_cut_download_goes_on(server: Server, tmp_path: Path) -> None:
    file = server.add("/net.pth", CONTENT, faults=[("cut", 1_000_000), ("cut", 700_000)])
    target = tmp_path / "net.pth"
    seen: list[tuple[int, int | None]] = []
    url = f"{server.url}/net.pth"
    download.download(url, target, sha256=None, on_progress=lambda *now: seen.append(now))
    assert target.read_bytes() == CONTENT
    first, second, third = server.gets()
    assert (first.range, first.status) == (None, 200)
    assert second.range in (f"bytes={at}-" for at in range(1_000_000 - CHUNK, 1_000_001))
    assert (second.if_range, second.status, third.status) == (file.etag, 206, 206)
    sent = sum(request.sent for request in server.gets())
    assert len(CONTENT) <= sent < len(CONTENT) + 2 * CHUNK, "a cut loses less than a chunk"
    assert left(tmp_path) == {"net.pth"}
    assert {total for _, total in seen} == {len(CONTENT)}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == len(CONTENT)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, 40_000), max_size=3),
    ranges=st.booleans(),
    etag=st.sampled_from(['"a"', 'W/"a"', None]),
    told=st.booleans(),
)
def test_whatever_is_cut_the_file_is_whole(
    tmp_path_factory: pytest.TempPathFactory,
    cuts: list[int],
    ranges: bool,
    etag: str | None,
    told: bool,
) -> None:
    content, folder = CONTENT[:50_000], tmp_path_factory.mktemp("cut")
    with serving() as server:
        faults = [("cut", cut) for cut in cuts]
        server.add("/net.pth", content, ranges=ranges, etag=etag, faults=faults)
        digest = hashlib.sha256(content).hexdigest()
        assert bring(server, folder / "net.pth", digest if told else None) == digest
    assert (folder / "net.pth").read_bytes() == content
    assert left(folder) == {"net.pth"}


def test_a_file_that_changed_is_begun_again(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "net.pth"
    server.add("/net.pth", bytes(3_000_000), faults=[("cut", 100_000)] + [("status", 503)] * 5)
    with pytest.raises(
        InputError, match=r"503 Service Unavailable, 5 times; the received bytes are kept"
    ):
        bring(server, target, None)
    assert left(tmp_path) == {"net.pth.part"}
    size = (tmp_path / "net.pth.part").stat().st_size
    assert 100_000 - CHUNK < size <= 100_000
    server.add("/net.pth", CONTENT)
    server.requests.clear()
    assert bring(server, target, None) == SHA256
    (only,) = server.gets()
    assert (only.range, only.status) == (f"bytes={size}-", 200), "the mark was no longer the file's"


def test_a_beginning_of_another_file_is_noticed_by_the_checksum(
    server: Server, tmp_path: Path
) -> None:
    """Without a mark of the version, only the checksum tells that both halves do not fit."""
    target = tmp_path / "net.pth"
    (tmp_path / "net.pth.part").write_bytes(b"x" * 1000)
    server.add("/net.pth", CONTENT, etag=None)
    assert bring(server, target) == SHA256
    assert [request.range for request in server.gets()] == ["bytes=1000-", None]
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_complete_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net.pth.part").write_bytes(CONTENT)
    server.add("/net.pth", CONTENT)
    assert bring(server, tmp_path / "net.pth") == SHA256
    (only,) = server.gets()
    assert (only.status, only.sent) == (416, 0)


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.add("/net.pth", CONTENT[:-1] + b"x")
    with pytest.raises(InputError, match=rf"has the SHA-256 .*, expected {SHA256}"):
        bring(server, tmp_path / "net.pth")
    assert left(tmp_path) == set()
    server.add("/net.pth", CONTENT)
    assert bring(server, tmp_path / "net.pth") == SHA256


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(server: Server, tmp_path: Path, status: int) -> None:
    server.add("/net.pth", CONTENT, faults=[("status", status)])
    with pytest.raises(InputError, match=rf"/net\.pth: the server answered {status} "):
        bring(server, tmp_path / "net.pth")
    assert len(server.gets()) == 1
    assert left(tmp_path) == set()


def test_a_passing_failure_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.add("/net.pth", CONTENT, faults=[("status", 500), ("status", 429), ("cut", 0)])
    assert bring(server, tmp_path / "net.pth") == SHA256
    assert [request.status for request in server.gets()] == [500, 429, 200, 200]


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with serving() as gone:
        pass
    with pytest.raises(InputError, match=r"the server cannot be reached, 5 times"):
        bring(gone, tmp_path / "net.pth")


def test_what_is_there_is_checked_and_not_asked_for(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "net.pth"
    server.add("/net.pth", CONTENT)
    assert cached(target, SHA256) is None
    bring(server, target, None)
    assert bring(server, target, None) == cached(target, None) == cached(target, SHA256) == SHA256
    assert len(server.gets()) == 1
    target.write_bytes(CONTENT[:-1])
    assert cached(target, None) is None
    assert bring(server, target, None) == sha256_of(target) == SHA256
    assert len(server.gets()) == 2


def test_ctrl_c_leaves_a_part_that_is_continued(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/net.pth"
    server.add("/net.pth", CONTENT, faults=[("stall", 2_000_000)])
    target = download_cache.place(url)
    code = (
        "import sys\nfrom pathlib import Path\nfrom resnetkit.hub.download import download\n"
        "download(sys.argv[1], Path(sys.argv[2]), sha256=None)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, url, str(target)], stderr=subprocess.PIPE
    ) as process:
        assert server.stalled.wait(60)
        part = target.with_name("net.pth.part")
        for _ in range(200):  # what the server has sent is on its way
            if part.exists() and part.stat().st_size:
                break
            assert process.poll() is None
            server.go_on.wait(0.05)
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    server.go_on.set()
    size = part.stat().st_size
    assert 0 < size <= 2_000_000
    assert not target.exists()
    server.requests.clear()
    assert bring(server, target, None) == SHA256
    (only,) = server.gets()
    assert (only.range, only.sent) == (f"bytes={size}-", len(CONTENT) - size)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RESNETKIT_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/resnetkit"),
        ({"HOME": "/home/me"}, "/home/me/.cache/resnetkit"),
    ],
)
def test_where_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name in ("RESNETKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resnetkit.files.cache_folder() == Path(expected)


def test_two_addresses_have_two_places() -> None:
    one, other = (
        download_cache.place("https://a/net.pth"),
        download_cache.place("https://b/net.pth"),
    )
    assert one.name == other.name == "net.pth"
    assert one != other


def test_a_redirection_is_followed_where_it_can_be_trusted(server: Server, tmp_path: Path) -> None:
    server.add("/net.pth", b"", location="/moved/net.pth")
    server.add("/moved/net.pth", CONTENT, faults=[("cut", 100_000)])
    assert bring(server, tmp_path / "net.pth", None) == SHA256
    server.add("/net.pth", b"", location="http://example.invalid/net.pth")
    with pytest.raises(
        InputError, match=r"redirects to http://example.invalid/net.pth, which is not"
    ):
        bring(server, tmp_path / "other.pth", None)


def test_what_comes_compressed_is_refused(server: Server, tmp_path: Path) -> None:
    server.add("/net.pth", CONTENT, headers={"Content-Encoding": "gzip"})
    with pytest.raises(InputError, match="is compressed, which was not requested"):
        bring(server, tmp_path / "net.pth")


@pytest.mark.parametrize("package", ["requests", "filelock"])
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"requires {package}, .* pip install 'resnetkit\[hub\]'"):
        download.download("https://a.invalid/net.pth", tmp_path / "net.pth", sha256=None)


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESNETKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"set RESNETKIT_CACHE to a folder to write to"):
        download_cache.place("https://a.invalid/net.pth")


def test_a_part_that_nothing_vouches_for_is_begun_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net.pth.part").write_bytes(b"x" * 1000)
    server.add("/net.pth", CONTENT, etag=None)
    assert bring(server, tmp_path / "net.pth", None) == SHA256
    assert [request.range for request in server.gets()] == [None]


def test_a_server_that_always_cuts_is_given_up(server: Server, tmp_path: Path) -> None:
    """Without parts nothing is won by trying on, even if one try comes further than the last."""
    cuts = [("cut", 200_000 + 100_000 * (number % 2)) for number in range(50)]
    server.add("/net.pth", CONTENT, ranges=False, faults=cuts)
    with pytest.raises(InputError, match=r"the connection was cut, 5 times"):
        bring(server, tmp_path / "net.pth")
    assert len(server.gets()) <= 7
