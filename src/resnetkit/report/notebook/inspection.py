"""What was found inside a network, in a notebook."""

from __future__ import annotations

import base64
from io import BytesIO

import PIL.Image

from resnetkit.architecture.layer import shape_text
from resnetkit.inspect.attribution import Attribution
from resnetkit.inspect.maps import FeatureMaps
from resnetkit.inspect.receptive import ReceptiveField
from resnetkit.inspect.statistics import HEADS, ActivationStatistics
from resnetkit.inspect.weights import NORM_HEADS, WEIGHT_HEADS, WeightsReport
from resnetkit.report.console.lines import percent
from resnetkit.report.notebook.view import Table, View, tables

#: Maps shown in a cell, channels of each, and the longer side of a photo.
_MAPS, _CHANNELS, _SIDE = 12, 8, 480


def featuremaps(shown: FeatureMaps) -> View:
    """The picture and the strongest channels of the first maps."""
    network = shown.network.name
    best = [f"{one.label} {percent(one.probability)}" for one in shown.scores[:1]]
    pictures = [(f"input {shape_text(shown.photo.pixels.shape[:2])}", _source(shown.input))]
    pictures += [
        (f"{path}  {shape_text(values.shape)}", _source(shown.image(path, _CHANNELS)))
        for path, values in list(shown.maps.items())[:_MAPS]
    ]
    more = len(shown.maps) - _MAPS
    return _pictures(
        ", ".join([f"{shown.name}: {len(shown.maps)} maps of {network}", *best]),
        pictures,
        about=f"the {_CHANNELS} strongest channels of each map; engine {shown.engine}",
        notes=[f"and {more} more maps"] if more > 0 else [],
    )


def attribution(shown: Attribution) -> View:
    """The photo with the map over it."""
    picture = shown.overlay()
    picture.thumbnail((_SIDE, _SIDE))
    words = [f"{shown.photo.name}: {shown.method}"]
    if shown.label is not None and shown.probability is not None:
        words.append(f"for {shown.label} {percent(shown.probability)}")
    about = "" if shown.at is None else f"at {shown.at}, {shape_text(shown.map.shape)}"
    return _pictures(" ".join(words), [("", _source(picture, "JPEG"))], about=about)


def receptivefield(shown: ReceptiveField) -> View:
    """The lines of text, and the effective field if there is one."""
    heading, *notes = str(shown).splitlines()
    effective = shown.effective
    pictures = [] if effective is None else [("", _source(effective.image(_SIDE)))]
    return _pictures(heading, pictures, notes=notes)


def activationstatistics(shown: ActivationStatistics) -> View:
    """A row for each block; all rows are folded."""
    cells = shown.cells()
    blocks = [one for one in cells if one[1] == "block"]
    left = frozenset({0, 1})
    return tables(
        shown.heading,
        Table(heads=HEADS, rows=blocks, left=left),
        folded=[("blocks and activation layers", Table(heads=HEADS, rows=cells, left=left))],
        notes=shown.notes(),
    )


def weightsreport(shown: WeightsReport) -> View:
    """The findings; norms and weights are folded."""
    norms = Table(heads=NORM_HEADS, rows=shown.norm_cells(), left=frozenset({0, 2}))
    weights = Table(heads=WEIGHT_HEADS, rows=shown.weight_cells(), left=frozenset({0, 1}))
    findings = [(one.severity, one.text) for one in shown.findings]
    table = Table(heads=("", "finding"), rows=findings, left=frozenset({0, 1}))
    return tables(
        shown.heading,
        *([table] if findings else []),
        folded=[
            (f"{len(rows)} {name}", one)
            for name, rows, one in (
                ("norms", shown.norms, norms),
                ("weights", shown.weights, weights),
            )
            if rows
        ],
    )


def _pictures(
    heading: str,
    pictures: list[tuple[str, str]],
    *,
    about: str = "",
    notes: list[str] | None = None,
) -> View:
    values = {"pictures": pictures, "notes": notes or []}
    return View(name="pictures", heading=heading, about=about, values=values)


def _source(picture: PIL.Image.Image, kind: str = "PNG") -> str:
    """The picture as a data URL."""
    buffer = BytesIO()
    picture.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
