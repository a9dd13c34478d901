"""Fetches published weights and turns them into a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from resnetkit.checkpoints.identification import identify, is_bundle
from resnetkit.errors import InputError
from resnetkit.files import cache_folder
from resnetkit.formats.opening import open_container
from resnetkit.hub import download_cache
from resnetkit.hub.download import OnProgress, cached, download
from resnetkit.hub.huggingface import from_hub
from resnetkit.hub.load_options import LoadOptions
from resnetkit.hub.loading import load_checkpoint
from resnetkit.hub.torchvision_weights import Published, digits, imagenet, published
from resnetkit.source import Source, parse, public

if TYPE_CHECKING:
    from resnetkit.bundle.bundle import Bundle

#: The origin's note if a source with 1000 classes has no class names.
IMAGENET = "torchvision's names of ImageNet's 1000 classes, as the source has none"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Got:
    """A fetched file and its source; ``published`` if torchvision documents it."""

    path: Path
    facts: Mapping[str, Any]
    published: Published | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """See ``fetch`` for each."""

    sha256: str | None = None
    mirror: str | None = None
    offline: bool = False
    on_progress: OnProgress | None = None


def fetch(
    source: str,
    *,
    sha256: str | None = None,
    mirror: str | None = None,
    offline: bool = False,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Bundle:
    """Return the bundle of published weights, downloaded once and then cached.

    ``source`` is ``torchvision:NETWORK[@WEIGHTS]``, ``hf:OWNER/NAME[/FILE][@REVISION]`` or a URL.
    ``sha256`` is the expected checksum, instead of the source's own. ``mirror`` replaces
    ``https://download.pytorch.org`` or ``https://huggingface.co``. ``offline``, or
    ``HF_HUB_OFFLINE=1``, forbids network access. ``on_progress`` is called with the received and
    the total bytes. ``options`` are those of ``resnetkit.load``; facts that the source documents
    need not be given. ``origin["fetched"]`` records where the file came from, of a URL without
    login and query.

    Raises ``ValueError`` for an unknown source, a download that fails, a wrong checksum, a missing
    extra, and as ``resnetkit.load`` does.

    >>> resnetkit.fetch(address, sha256=digest).network.name
    'resnet20'
    """
    fetching = FetchOptions(sha256=sha256, mirror=mirror, offline=offline, on_progress=on_progress)
    return fetch_with(source, fetching, LoadOptions.of(options))


def fetch_with(source: str, fetching: FetchOptions, choices: LoadOptions) -> Bundle:
    """As ``fetch``, with its options as objects."""
    place = parse(source)
    wanted = _wanted(fetching.sha256)
    offline = fetching.offline or download_cache.is_offline()
    if place.kind == "hf":
        got = _from_hub(place, wanted, fetching.mirror, offline)
    else:
        got = _from_url(place, wanted, fetching, offline)
    if is_bundle(open_container(got.path)):
        bundle = load_checkpoint(got.path, choices)
        fetched = {"source": place.text, **got.facts}
        return replace(bundle, origin={**bundle.origin, "fetched": fetched})
    documented = {} if got.published is None else _documented(got, choices.prefix, choices.ema)
    documented = {name: value for name, value in documented.items() if name not in choices.facts}
    settled = replace(choices, facts={**documented, **choices.facts})
    if got.published is not None and choices.preprocess is None:
        settled = replace(settled, preprocess=got.published.preprocess)
    bundle = load_checkpoint(got.path, settled)
    origin = {
        **bundle.origin,
        "made_by": "resnetkit fetch",
        "fetched": {"source": place.text, **got.facts},
        "documented": documented,
        "given": dict(choices.facts),
    }
    if got.published is not None and choices.preprocess is None:
        origin["preprocess"] = f"torchvision's {got.published.label}"
    bundle = replace(bundle, origin=origin)
    return bundle if choices.num_classes is not None else _with_names(bundle, got.published)


def _wanted(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    digest = sha256.lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise InputError(f"the SHA-256 {sha256!r} is not 64 hexadecimal digits")
    return digest


def _from_hub(place: Source, wanted: str | None, mirror: str | None, offline: bool) -> _Got:
    found = from_hub(place, offline=offline, endpoint=mirror)
    if wanted is not None and found.sha256 != wanted:
        raise InputError(f"hf:{place.name} has the SHA-256 {found.sha256}, expected {wanted}")
    return _Got(
        path=found.weights,
        facts={"revision": found.commit, "file": found.weights.name, "sha256": found.sha256},
    )


def _from_url(place: Source, wanted: str | None, fetching: FetchOptions, offline: bool) -> _Got:
    mirror = fetching.mirror
    weights = published(place.name, place.version) if place.kind == "torchvision" else None
    url = place.name if weights is None else _mirrored(weights.url, mirror)
    if weights is None and mirror is not None:
        raise InputError("mirror does not apply to a URL; leave mirror out", field="mirror")
    checksum = wanted or digits(url)
    own = weights is not None and wanted is None  # the name tells the content
    path = download_cache.place(url, "torchvision" if own else None)
    digest = cached(path, checksum)
    if digest is None and offline:
        raise InputError(
            f"{url} is not in the cache ({cache_folder()}), and downloads are disabled; "
            "fetch it once without offline and without HF_HUB_OFFLINE",
            field="offline",
        )
    digest = digest or download(url, path, sha256=checksum, on_progress=fetching.on_progress)
    facts = {"url": public(url), "sha256": digest, "checked": _checked(wanted, checksum)}
    if weights is not None:
        facts["weights"] = weights.label
    return _Got(path=path, facts=facts, published=weights)


def _mirrored(url: str, mirror: str | None) -> str:
    return url if mirror is None else mirror.rstrip("/") + urlsplit(url).path


def _checked(wanted: str | None, checksum: str | None) -> str:
    if wanted is not None:
        return "against the given SHA-256"
    if checksum is not None:
        return f"against the {len(checksum)} digits in the file's name"
    return "against nothing, as the source has no checksum"


def _documented(got: _Got, prefix: str | None, ema: bool | None) -> dict[str, Any]:
    """Facts of torchvision's code that tensors do not show."""
    assert got.published is not None
    reading = identify(got.path, prefix=prefix, ema=ema).reading
    name, found = got.published.network, reading.network.name
    if reading.dialect.name != "torchvision" or found != name:
        raise InputError(
            f"{got.facts['url']} is {found} of {reading.dialect.name}, "
            f"expected torchvision's {name}"
        )
    return {fact.fact: fact.default for fact in reading.ambiguous if fact.fact != "preprocess"}


def _with_names(bundle: Bundle, weights: Published | None) -> Bundle:
    """The bundle with its class names, if they are known."""
    count = len(bundle.classes)
    if weights is not None and count == len(weights.classes):
        names, source = weights.classes, f"torchvision's {weights.network}, {weights.label}"
    elif count == 1000 and not bundle.origin.get("class_names"):
        names, source = imagenet(), IMAGENET
    else:
        return bundle
    return replace(bundle, classes=names, origin={**bundle.origin, "class_names": source})
