"""Serve a trained bundle or an exported file over HTTP.

POST an image to /predict, or a form with several; / has a page to try it, /docs the API, /metrics
counters for Prometheus, /v2 the Open Inference Protocol. Concurrent images are batched. SIGTERM and
Ctrl-C finish accepted requests, then stop.
"""

from __future__ import annotations

import argparse

from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import CHOICES

#: Maximum milliseconds that a batch waits for more images.
LONGEST = 60_000


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a bundle, an exported file, or hf:OWNER/NAME")
    add("--host", default="127.0.0.1", help="default: 127.0.0.1, local access only")
    add("--port", type=int, default=8000, metavar="N", help="default: 8000; 0 picks a free port")
    add("--grpc-port", type=int, metavar="N", help="also serve the Open Inference Protocol over "
        "gRPC; 0 picks a free port")  # fmt: skip
    add("--engine", choices=CHOICES, default="auto", help="inference engine; auto: the fastest "
        "installed one with float32 results")  # fmt: skip
    add("--device", metavar="NAME", help="cpu, cuda, ...; default: cuda if available")
    add("--threads", type=int, metavar="N", help="CPU threads of the engine")
    add("--topk", type=int, default=5, metavar="N", help="classes per image; default: 5")
    add("--exact", action="store_true", help="pixels bit-equal to torchvision's; default: a "
        "faster path, as in predict")  # fmt: skip
    add("--batch-size", type=int, metavar="N", help="maximum batch size; default: the fastest up "
        "to 8, measured once")  # fmt: skip
    add("--patience", type=float, default=0, metavar="MS", help="how long a batch waits for more "
        "images, in milliseconds; default: 0, only queued images")  # fmt: skip
    add("--waiting", type=int, default=256, metavar="N", help="maximum queue length; a request "
        "beyond it gets 503; default: 256")  # fmt: skip
    add("--max-megabytes", type=int, default=32, metavar="N", help="of a request body; default: 32")


def run(args: argparse.Namespace) -> int:
    numbers = {"topk": 1, "batch_size": 1, "waiting": 1, "max_megabytes": 1, "patience": 0}
    for name, least in numbers.items():
        value = getattr(args, name)
        if value is not None and value < least:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} is {value}; it must be at least {least}")
    if not args.patience <= LONGEST:
        raise InputError(f"--patience is {args.patience:g}; it must be at most {LONGEST:,} ms")
    for flag, port in (("--port", args.port), ("--grpc-port", args.grpc_port)):
        if port is not None and not 0 <= port <= 65535:
            raise InputError(f"{flag} is {port}; it must be from 0 to 65535")
    from resnetkit.server.serving import serve

    serve(
        args.model,
        host=args.host,
        port=args.port,
        grpc_port=args.grpc_port,
        engine=args.engine,
        device=args.device,
        threads=args.threads,
        topk=args.topk,
        exact=args.exact,
        max_batch_size=args.batch_size,
        max_queue_delay=args.patience / 1000,
        max_queue_size=args.waiting,
        max_body_bytes=args.max_megabytes << 20,
        on_start=lambda line: print(line, flush=True),
    )
    return 0
