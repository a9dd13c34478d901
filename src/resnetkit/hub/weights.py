"""Loads weights from a file or a published source; builds modules with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from resnetkit.architecture.network import Network
from resnetkit.architecture.registry import network
from resnetkit.errors import InputError, check_installed
from resnetkit.hub.fetching import FetchOptions, fetch_with
from resnetkit.hub.load_options import LoadOptions, numbered
from resnetkit.hub.loading import load_checkpoint
from resnetkit.preprocess import Preprocess
from resnetkit.source import is_source

if TYPE_CHECKING:
    from resnetkit.bundle.bundle import Bundle
    from resnetkit.nn.resnet import ResNet


def load(
    source: str | Path,
    *,
    strict: bool = False,
    prefix: str | None = None,
    ema: bool | None = None,
    head: str | None = None,
    drop: Sequence[str] = (),
    dtype: str | None = "float32",
    num_classes: int | None = None,
    preprocess: str | Preprocess | None = None,
    **facts: Any,
) -> Bundle:
    """Load a checkpoint of any framework, a bundle, or a published source as a bundle.

    ``source`` is a file, a folder written by ``save_pretrained`` or ``save_state``, or a source of
    ``fetch``; an existing file takes precedence.

    ``facts`` are options that the tensors do not show, e.g. ``stride_on="1x1"``; ``preprocess`` is
    one of the labels that ``identify`` lists, or a ``Preprocess``. Facts that are not given default
    to the framework's documented values, are recorded in ``origin["assumed"]`` and warned about.
    With ``strict``, nothing is assumed, and leftover tensors must be named in ``drop``.

    ``prefix`` selects one of several networks in a file, ``ema`` averaged or raw weights, ``head``
    the classifier's linear layer if its name is not recognised. ``drop`` has names or prefixes
    (``*`` matches any text) of tensors outside the network to skip, or of the classifier. Tensors
    outside the network are skipped, listed in ``origin["left_out"]`` and warned about.
    ``num_classes`` replaces the classifier by a new, untrained one. Weights are cast to ``dtype``;
    None keeps the file's.

    Raises ``ValueError`` for an unreadable file, for none or several ResNets in it, for missing,
    unexpected or misshapen tensors inside the network, and with ``strict`` for open facts. Warns
    with ``AssumptionWarning``, once per file.

    >>> resnetkit.load(model).classes[:3]
    ('0', '1', '2')
    """
    options = LoadOptions(
        strict=strict,
        prefix=prefix,
        ema=ema,
        head=head,
        drop=tuple(drop),
        dtype=dtype,
        num_classes=num_classes,
        preprocess=preprocess,
        facts=facts,
    )
    if is_source(source):
        return fetch_with(str(source), FetchOptions(), options)
    return load_checkpoint(source, options)


def build(
    name: str | Network,
    *,
    num_classes: int | EllipsisType | None = ...,
    in_chans: int | EllipsisType = ...,
    pretrained: bool | str | Path | Bundle = False,
    zero_init_last: bool = False,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> Any:
    """Build the torch module of a network, in training mode: ``(N, C, H, W) -> (N, num_classes)``.

    ``num_classes``, ``in_chans`` and ``options`` override those of the named network;
    ``num_classes`` None or 0 omits the classifier. ``pretrained`` is a source of weights as in
    ``load``, or True for torchvision's weights of that name; ``num_classes`` then replaces their
    classifier. With ``features_only`` the module returns a list of the maps ``out_indices``, as in
    timm. ``zero_init_last`` initialises every block as its shortcut.

    Raises ``ValueError`` for an unknown name or option, for contradictory options, and for weights
    of another network.

    >>> module = resnetkit.build("resnet18", num_classes=10).eval()
    >>> module(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    check_installed("torch", "a torch module")
    from resnetkit.nn import resnet

    given = {"num_classes": num_classes or None, "in_chans": in_chans}
    options |= {key: value for key, value in given.items() if value is not ...}
    described = network(name, **options)
    if pretrained is False:
        module: ResNet = resnet.build(described, zero_init_last=zero_init_last)
    else:
        module = (
            _pretrained(described, pretrained, new_head=num_classes is not ...).module().train()
        )
    if out_indices is not None and not features_only:
        raise InputError("out_indices requires features_only; give features_only=True")
    return resnet.FeatureNet(module, out_indices) if features_only else module


def _pretrained(
    described: Network, weights: bool | str | Path | Bundle, *, new_head: bool
) -> Bundle:
    """Load the weights, which must match the network except for the classifier."""
    source = f"torchvision:{described.name}" if weights is True else weights
    bundle = load(source) if isinstance(source, str | Path) else source
    assert not isinstance(bundle, bool)
    wanted = described.options.num_classes
    theirs = bundle.network.override(num_classes=wanted)
    if theirs.options != described.options:
        differing = ", ".join(theirs.options.differences(described.options))
        raise InputError(
            f"pretrained has weights of {bundle.network.name}, which differs from "
            f"{described.name} in {differing}; give the matching network"
        )
    if not new_head or wanted == bundle.network.options.num_classes:
        return bundle
    if wanted is None:
        arrays = {k: v for k, v in bundle.arrays.items() if not k.startswith("fc.")}
        return replace(bundle, network=theirs, arrays=arrays, classes=())
    return bundle.with_new_head(numbered(wanted))


def load_or_fetch(start: str, fetching: FetchOptions, options: LoadOptions) -> Bundle:
    """As ``load``, with the options of ``fetch`` as well.

    Raises ``ValueError`` if there is neither such a file nor such a source, and if a checksum or a
    mirror is given for a file.
    """
    if is_source(start):
        return fetch_with(start, fetching, options)
    if not Path(start).exists():
        raise InputError(
            f"{start} does not exist and is not a source of weights; give a bundle, a checkpoint, "
            "or e.g. torchvision:resnet50"
        )
    if fetching.sha256 is not None or fetching.mirror is not None:
        raise InputError(
            f"{start} is a file; sha256 and mirror only apply to a source, leave them out",
            field=("sha256", "mirror"),
        )
    return load_checkpoint(start, options)
