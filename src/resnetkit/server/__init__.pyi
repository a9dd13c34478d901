from .access import Access as Access
from .application import create_app as create_app
from .served_model import Limits as Limits
from .served_model import ServedModel as ServedModel
from .serving import serve as serve
