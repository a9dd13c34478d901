"""Images that start a program, or open what they hold as any other kind."""

from __future__ import annotations

import struct
from pathlib import Path

PROGRAM = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
    b"(ran) (w) file closefile\nshowpage\n%%EOF\n"
)


def iptc_record(payload: bytes) -> bytes:
    """An IPTC/NAA file of 8x8 pixels whose compressed picture is ``payload``."""

    def field(group: int, number: int, data: bytes) -> bytes:
        return bytes([0x1C, group, number]) + struct.pack(">H", len(data)) + data

    return b"".join(
        (
            field(3, 20, struct.pack(">H", 8)),
            field(3, 30, struct.pack(">H", 8)),
            field(3, 60, b"\x01\x00"),
            field(3, 65, b"\x00"),
            field(3, 120, b"\x05"),
            field(8, 10, payload),
        )
    )


def hostile() -> dict[str, bytes]:
    """Files of kinds that start a program, or open what they hold as any other kind."""
    fits = "".join(
        f"{card:80}"
        for card in (
            "SIMPLE  = T",
            "BITPIX  = 8",
            "NAXIS   = 2",
            "NAXIS1  = 8",
            "NAXIS2  = 8",
            "END",
        )
    ).ljust(2880)
    return {
        "eps": PROGRAM,
        "iptc": iptc_record(PROGRAM),
        "eps-binary": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(PROGRAM)) + bytes(18)
        + PROGRAM,
        "wmf": b"\xd7\xcd\xc6\x9a\x00\x00" + struct.pack("<hhhhH", 0, 0, 8, 8, 96) + bytes(64),
        "emf": b"\x01\x00\x00\x00" + bytes(36) + b" EMF" + bytes(64),
        "fits": fits.encode() + bytes(2880),
        "psd": b"8BPS\x00\x01" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(64),
    }  # fmt: skip


def traps_in(folder: Path) -> Path:
    """A folder for PATH, with programs that leave a file ``ran`` in ``folder``."""
    traps = folder / "traps"
    traps.mkdir()
    for name in ("gs", "gswin32c", "djpeg", "xv", "sh", "convert", "netpbm", "ppmtojpeg"):
        (traps / name).write_text(f"#!/bin/sh\n: > {folder / 'ran'}\n")
        (traps / name).chmod(0o755)
    return traps
