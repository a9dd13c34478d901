from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .explanation import Explanation as Explanation
from .explanation import explain as explain
from .network import Network as Network
from .options import Options as Options
from .registry import catalog as catalog
from .registry import list_models as list_models
