from .feature_info import FeatureInfo as FeatureInfo
from .resnet import Backbone as Backbone
from .resnet import FeatureNet as FeatureNet
from .resnet import ResNet as ResNet
from .resnet import initialise as initialise
