from .drawing.svg import drawing as drawing
from .pages.network_page import network_page as network_page
from .pages.run_page import evaluation_page as evaluation_page
from .pages.runs_page import runs_page as runs_page
