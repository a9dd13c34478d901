from .ray_prediction import Progress as Progress
from .ray_prediction import RayOptions as RayOptions
from .ray_prediction import predict_on_ray as predict_on_ray
