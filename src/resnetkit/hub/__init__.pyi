from .conversion import convert as convert
from .fetching import fetch as fetch
from .pushing import push_to_hub as push_to_hub
from .source_framework import verify as verify
from .weights import build as build
from .weights import load as load
