"""Feature maps: what stages, blocks and layers output for a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from resnetkit.architecture.layer import shape_text
from resnetkit.architecture.network import Network
from resnetkit.data.decoding.decode import Image
from resnetkit.display import Displayed
from resnetkit.errors import InputError
from resnetkit.inference.engines.engine import EngineName
from resnetkit.inference.prediction import ClassScore, finite, ranked
from resnetkit.inspect.colours import captioned, coloured, enlarged, grid
from resnetkit.inspect.layer_outputs import engine_for, open_outputs
from resnetkit.inspect.models import Model, as_bundle, check_count, hint
from resnetkit.inspect.photo import Box, Photo, photo_of
from resnetkit.inspect.places import ShortcutKind, chosen

Array = npt.NDArray[np.float32]
#: Classes of a result, and the side of a channel's picture in pixels.
TOP, SIDE = 5, 112


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Channel:
    """One channel of a map: its number, its mean, and its values ``(H, W)``."""

    index: int
    mean: float
    values: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Branches:
    """The two outputs ``(C, H, W)`` that a block adds: of its main path, after the gate if there is
    one, and of its shortcut, which is of a ``kind``."""

    main: Array
    shortcut: Array
    kind: ShortcutKind


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureMaps(Displayed):
    """The outputs of a network's stages, blocks or layers for one picture.

    ``maps`` are float32 ``(C, H, W)`` by path, in the network's order; vectors of the head are
    ``(C, 1, 1)``. ``branches`` are the summands of each block that was asked for. ``photo`` is the
    picture; ``logits`` ``(classes,)`` and ``scores`` are the prediction, None and empty without a
    classifier. ``engine`` computed them.
    """

    network: Network
    maps: Mapping[str, Array]
    branches: Mapping[str, Branches]
    photo: Photo
    logits: Array | None
    scores: tuple[ClassScore, ...]
    engine: str

    def __getitem__(self, path: str) -> Array:
        """The map of a path. Raises ``KeyError`` for one that was not asked for."""
        return self.maps[path]

    @property
    def name(self) -> str:
        """The picture's name."""
        return self.photo.name

    @property
    def input(self) -> PIL.Image.Image:
        """The picture as the network gets it: resized and cropped, not yet normalised."""
        return self.photo.crop

    @property
    def box(self) -> Box:
        """Where ``input`` lies in the original, in its pixels."""
        return self.photo.box

    def strongest(self, path: str, count: int = 8) -> tuple[Channel, ...]:
        """The ``count`` channels of a map with the largest means, the largest first.

        Raises ``ValueError`` for a path that was not asked for.
        """
        check_count("count", count)
        if path not in self.maps:
            raise InputError(
                f"there is no map of {path!r}; {hint(path, list(self.maps))}it must be one of the "
                f"{len(self.maps)} paths in maps",
                field="path",
            )
        return strongest(self.maps[path], count)

    def image(self, path: str, count: int = 16) -> PIL.Image.Image:
        """The strongest channels of a map as one picture, each from its lowest (dark) to its
        highest value (bright)."""
        channels = self.strongest(path, count)
        tiles = [enlarged(coloured(channel.values), SIDE) for channel in channels]
        return grid(tiles, columns=8)

    def figure(self, count: int = 8) -> PIL.Image.Image:
        """The input and a row of the strongest channels of each map."""
        check_count("count", count)
        rows = [("input", enlarged(np.asarray(self.input), 2 * SIDE))]
        rows += [
            (f"{path}  {shape_text(values.shape)}", self.image(path, min(count, 8)))
            for path, values in self.maps.items()
        ]
        return captioned(rows)

    def to_dict(self) -> dict[str, Any]:
        """Shapes, means and the prediction as JSON types; the maps themselves are arrays."""
        return {
            "image": self.name,
            "box": list(self.box),
            "engine": self.engine,
            "predictions": [
                {"label": one.label, "probability": one.probability} for one in self.scores
            ],
            "maps": {
                path: {"shape": list(values.shape), "mean": float(values.mean())}
                for path, values in self.maps.items()
            },
        }


def strongest(values: Array, count: int) -> tuple[Channel, ...]:
    """The channels of a map ``(C, H, W)`` with the largest means; equal ones in their order."""
    means = values.mean(axis=(1, 2), dtype=np.float64)
    best = np.argsort(-np.nan_to_num(means, nan=-np.inf), kind="stable")[:count]
    return tuple(
        Channel(index=index, mean=float(means[index]), values=values[index])
        for index in best.tolist()
    )


def feature_maps(
    model: Model,
    image: Image,
    at: str | Sequence[str] | None = None,
    *,
    engine: EngineName = "auto",
) -> FeatureMaps:
    """The outputs of stages, blocks or layers for one picture.

    ``model`` is a bundle, its path, or a module of ``resnetkit.build``; ``image`` is as in
    ``predict``. ``at`` is a path or several: of stages (``stage1``, or torch's ``layer1``), blocks
    (``layer1.0``) or layers (``layer1.0.conv1``), or ``stage``, ``block`` or ``layer`` for all of
    these; by default the stages. ``engine`` is as in ``predict``; a module is run by torch. All
    engines compute in float32, and agree to 1e-4 of a map's largest value.

    Raises ``ValueError`` for an unknown path, an unreadable image, and an unusable model or engine.

    >>> maps = feature_maps(model, "seven.png", at="stage4")
    >>> maps["stage4"].shape
    (512, 2, 2)
    """
    bundle = as_bundle(model)
    photo = photo_of(image, bundle.preprocess)
    found = chosen(bundle.network, at, "stage")
    layers = [layer for place in found for layer in place.layers]
    run = open_outputs(bundle, layers, engine_for(model, engine))
    values = {path: _as_map(batch[0]) for path, batch in run(photo.batch).items()}
    logits = values[run.output][:, 0, 0] if run.output == "logits" else None
    ranks = logits is not None and finite(logits)
    return FeatureMaps(
        network=bundle.network,
        maps={place.path: values[place.layer] for place in found},
        branches={
            place.path: Branches(
                main=values[place.main], shortcut=values[place.shortcut], kind=place.kind
            )
            for place in found
            if place.main is not None and place.shortcut is not None and place.kind is not None
        },
        photo=photo,
        logits=logits,
        scores=ranked(logits, bundle.classes, TOP) if ranks and logits is not None else (),
        engine=run.engine,
    )


def _as_map(values: Array) -> Array:
    return values if values.ndim == 3 else values.reshape(-1, 1, 1)
