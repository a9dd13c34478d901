from .agreement import Agreement as Agreement
from .exporter import Export as Export
from .exporter import export as export
