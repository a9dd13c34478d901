from .application import Limits as Limits
from .application import Served as Served
from .application import create_app as create_app
from .serving import serve as serve
