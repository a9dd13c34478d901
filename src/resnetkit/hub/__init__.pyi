from .conversion import convert as convert
from .fetching import fetch as fetch
from .source_framework import verify as verify
from .weights import build as build
from .weights import load as load
