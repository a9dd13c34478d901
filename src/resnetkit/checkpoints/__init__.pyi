from .identification import Identification as Identification
from .identification import identify as identify
