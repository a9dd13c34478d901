from .engines.engine import Engine as Engine
from .engines.engine import EngineOptions as EngineOptions
from .engines.selection import open_engine as open_engine
from .prediction import ClassScore as ClassScore
from .prediction import Prediction as Prediction
from .prediction import stream as stream
from .predictor import PredictOptions as PredictOptions
from .predictor import Predictor as Predictor
