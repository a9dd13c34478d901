"""Progress: nothing is lost or reordered, and a pipe gets plain lines."""

from __future__ import annotations

import pytest

from resnetkit.report.console import progress


def test_items_pass_and_a_pipe_gets_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(progress.track(range(50))) == list(range(50))
    assert capsys.readouterr().err == "", "short work is silent"
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    assert list(progress.track("abc")) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"resnetkit: {count} of 3 images" for count in (1, 2, 3)
    ]
    assert all("images/s" in line and line.endswith("left") for line in lines)


def test_what_passes_need_not_be_images(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    now = iter(range(0, 100, 4))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(now))
    list(progress.track("ab", of="measurements"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "resnetkit: 1 of 2 measurements, 4.0 s each, 0:04 left"
    assert "image" not in lines[1]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert progress.clock(seconds) == text


def test_a_transfer_tells_size_rate_and_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter((0.0, 0.0, 2.0, 4.0, 6.0))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(progress, "INTERVAL", 1.0)
    with progress.transfer("net") as tell:
        tell(10_000_000, 50_000_000)  # continued: these were there before
        tell(14_000_000, 50_000_000)
        tell(26_000_000, None)
        tell(50_000_000, 50_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "resnetkit: net: 14.0 of 50.0 MB, 2.0 MB/s, 0:18 left",
        "resnetkit: net: 26.0 MB, 4.0 MB/s",
    ]
