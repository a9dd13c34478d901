"""The drawing as PDF and PNG.

The SVG is turned into a PDF with its standard fonts, and that into pixels, so that neither needs a
font of the system.
"""

from __future__ import annotations

from io import BytesIO, StringIO
from math import sqrt

from resnetkit.architecture import text
from resnetkit.architecture.explanation import Explanation
from resnetkit.errors import require
from resnetkit.report.drawing.svg import drawing

#: Pixels of the PNG per pixel of the drawing, unless it would have more than so many.
ZOOM, MOST_PIXELS = 2.0, 64_000_000
#: The largest side of a PDF's page in points (ISO 32000-1, annex C).
MOST_POINTS = 14_400


def pdf(explanation: Explanation) -> bytes:
    """The network as a PDF of one page. Raises ``InputError`` if a package is not installed."""
    svg = require("svglib.svglib", "a PDF or PNG of the drawing")
    from reportlab.graphics import renderPDF
    from reportlab.pdfgen.canvas import Canvas

    sketch = svg.svg2rlg(StringIO(drawing(explanation)))
    factor = min(1.0, MOST_POINTS / max(sketch.width, sketch.height))
    sketch.scale(factor, factor)
    file = BytesIO()
    size = (sketch.width * factor, sketch.height * factor)
    # Without the time, so that the file is the same each time.
    canvas = Canvas(file, pagesize=size, invariant=True)
    canvas.setTitle(text.heading(explanation))
    renderPDF.draw(sketch, canvas, 0, 0)
    canvas.save()
    return file.getvalue()


def png(explanation: Explanation) -> bytes:
    """The network as a PNG, twice as large as the SVG if it is not huge.

    Raises ``InputError`` if a package is not installed.
    """
    pdfium = require("pypdfium2", "a PNG of the drawing")
    document = pdfium.PdfDocument(pdf(explanation))
    page = document[0]
    width, height = page.get_size()
    # A pixel of the drawing has 0.75 points.
    zoom = min(ZOOM / 0.75, sqrt(MOST_PIXELS / (width * height)))
    file = BytesIO()
    page.render(scale=zoom).to_pil().save(file, "PNG")
    document.close()
    return file.getvalue()
