"""Serve trained bundles or exported files over HTTP.

POST an image to /predict, or a form with several; / has a page to try it, /docs the API, /metrics
counters for Prometheus, /v2 the Open Inference Protocol. Concurrent images are batched. SIGTERM and
Ctrl-C finish accepted requests, then stop.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from resnetkit.cli.config_file import add_config, configured, unknown
from resnetkit.cli.messages import in_flags
from resnetkit.errors import InputError, printable, shown
from resnetkit.inference.engines.engine import CHOICES
from resnetkit.source import is_source

#: Maximum milliseconds that a batch waits for more images.
LONGEST = 60_000
#: Maximum seconds that the server takes to end.
LONGEST_GRACE = 3600


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="default: 127.0.0.1, local access only; another one "
        "needs --api-key-file or --insecure")  # fmt: skip
    add("--port", type=int, default=8000, metavar="N", help="default: 8000; 0 picks a free port")
    add("--uds", type=Path, metavar="PATH", help="a Unix socket, in place of --host and --port")
    add("--grpc-port", type=int, metavar="N", help="also serve the Open Inference Protocol over "
        "gRPC; 0 picks a free port")  # fmt: skip
    add("--workers", type=int, metavar="N", help="processes that share the address and the CPUs; "
        "one that dies is started again; default: this process")  # fmt: skip
    add("--root-path", default="", metavar="PATH", help="path under which a proxy shows the server")
    add("--engine", choices=CHOICES, default="auto", help="inference engine; auto: the fastest "
        "installed one with float32 results")  # fmt: skip
    add("--device", metavar="NAME", help="cpu, cuda, ...; default: cuda if available")
    add("--threads", type=int, metavar="N", help="CPU threads of the engine")
    add("--topk", type=int, default=5, metavar="N", help="classes per image; default: 5")
    add("--exact", action="store_true", help="pixels bit-equal to torchvision's; default: a "
        "faster path, as in predict")  # fmt: skip
    add("--watch", type=float, metavar="SECONDS", help="replace a model when its file changes, "
        "looked at every SECONDS, and at SIGHUP")  # fmt: skip
    add("--batch-size", type=int, metavar="N", help="maximum batch size; default: the fastest up "
        "to 8, measured once")  # fmt: skip
    add("--patience", type=float, default=0, metavar="MS", help="how long a batch waits for more "
        "images, in milliseconds; default: 0, only queued images")  # fmt: skip
    add("--waiting", type=int, default=256, metavar="N", help="maximum queue length; a request "
        "beyond it gets 503; default: 256")  # fmt: skip
    add("--max-megabytes", type=int, default=32, metavar="N", help="of a request body; default: 32")
    add("--api-key-file", metavar="FILE", help="requests need a key of this file, which has "
        "NAME:KEY lines")  # fmt: skip
    add("--insecure", action="store_true", help="serve other machines without keys")
    add("--max-requests-per-client", type=int, metavar="N", help="in progress, for a key or an "
        "address; default: any number")  # fmt: skip
    add("--access-log", action="store_true", help="print a line per request to stderr")
    add("--grace", type=float, default=30, metavar="SECONDS", help="after SIGTERM or Ctrl-C, to "
        "answer what was received; default: 30")  # fmt: skip
    add("--embeddings", action="store_true", help="serve embeddings too, at /embeddings")
    add("--inspect", action="store_true", help="serve /view, a page that opens the model and shows "
        "what it makes of pictures")  # fmt: skip
    add("--allow-url", action="store_true", help="fetch images of URLs in requests, from public "
        "addresses")  # fmt: skip
    add("--cors-origin", action="append", default=[], metavar="ORIGIN", help="pages of this origin "
        "may use the server: https://HOST, or * for all; may be repeated")  # fmt: skip
    add_config(parser, "server.toml")
    add("models", nargs="*", metavar="[NAME=]MODEL", help="a bundle, an exported file, or "
        "hf:OWNER/NAME; several have names, NAME=MODEL, and perhaps versions, "
        "NAME@VERSION=MODEL")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    models = _models(args)
    numbers = {
        "topk": 1,
        "workers": 1,
        "batch_size": 1,
        "waiting": 1,
        "max_megabytes": 1,
        "patience": 0,
        "watch": 0.1,
        "max_requests_per_client": 1,
        "grace": 1,
    }
    for name, least in numbers.items():
        value = getattr(args, name)
        if value is not None and not value >= least:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} is {value:g}; it must be at least {least}")
    if args.watch is not None and not args.watch <= LONGEST:
        raise InputError(f"--watch is {args.watch:g}; it must be at most {LONGEST:,} s")
    if args.root_path and not args.root_path.startswith("/"):
        raise InputError(f"--root-path is {args.root_path}; it must begin with /")
    if not args.patience <= LONGEST:
        raise InputError(f"--patience is {args.patience:g}; it must be at most {LONGEST:,} ms")
    if not args.grace <= LONGEST_GRACE:
        raise InputError(f"--grace is {args.grace:g}; it must be at most {LONGEST_GRACE:,} seconds")
    for flag, port in (("--port", args.port), ("--grpc-port", args.grpc_port)):
        if port is not None and not 0 <= port <= 65535:
            raise InputError(f"{flag} is {port}; it must be from 0 to 65535")
    from resnetkit.server.serving import serve

    serve(
        models,
        host=args.host,
        port=args.port,
        grpc_port=args.grpc_port,
        uds=args.uds,
        workers=args.workers,
        root_path=args.root_path,
        engine=args.engine,
        device=args.device,
        threads=args.threads,
        topk=args.topk,
        exact=args.exact,
        watch=args.watch,
        max_batch_size=args.batch_size,
        max_queue_delay=args.patience / 1000,
        max_queue_size=args.waiting,
        max_body_bytes=args.max_megabytes << 20,
        embeddings=args.embeddings,
        inspect=args.inspect,
        allow_url=args.allow_url,
        cors_origins=args.cors_origin,
        api_keys=args.api_key_file,
        insecure=args.insecure,
        max_requests_per_client=args.max_requests_per_client,
        access_log=args.access_log,
        grace=args.grace,
        on_start=_say,
        on_event=_say,
    )
    return 0


def _say(line: str) -> None:
    print(printable(in_flags(InputError(line))), flush=True)


def _models(args: argparse.Namespace) -> dict[str, str]:
    """The models of the command line, else of the file, by name."""
    from resnetkit.server.model_source import default_name, split_name

    rest = configured(args)
    table = rest.pop("models", {})
    if rest:
        raise unknown(args.config, rest, [*args.configurable[0], "models"])
    if not isinstance(table, dict) or not all(isinstance(one, str) for one in table.values()):
        raise InputError(
            f'{args.config}: models is {shown(table)}; it must be a table, NAME = "MODEL"'
        )
    if not args.models:
        if not table:
            raise InputError("no model is given; give a bundle, e.g. RUN/best.safetensors")
        folder = args.config.parent
        return {key: one if is_source(one) else str(folder / one) for key, one in table.items()}
    found: dict[str, str] = {}
    for name, path in map(split_name, args.models):
        if (key := name or default_name(path)) in found:
            raise InputError(
                f"{found[key]} and {path} are both {key}; name them, e.g. {key}=MODEL, or "
                f"{key}@2=MODEL for another version"
            )
        found[key] = path
    return found
