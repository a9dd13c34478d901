from .access import Access as Access
from .application import Limits as Limits
from .application import ServedModel as ServedModel
from .application import create_app as create_app
from .serving import serve as serve
