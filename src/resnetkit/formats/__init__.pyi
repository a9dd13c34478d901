from .container import Container as Container
from .opening import open_container as open_container
