from .bundle import Bundle as Bundle
from .opening import open_model as open_model
from .prediction import embed as embed
from .prediction import predict as predict
from .prediction import predict_to_file as predict_to_file
