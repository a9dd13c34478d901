"""Networks as SVG drawings."""
