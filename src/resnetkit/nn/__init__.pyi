from .feature_info import FeatureInfo as FeatureInfo
from .resnet import Backbone as Backbone
from .resnet import FeatureNet as FeatureNet
from .resnet import ResNet as ResNet
from .resnet import initialise as initialise
from .segmentation_encoder import SegmentationEncoder as SegmentationEncoder
from .segmentation_encoder import smp_encoder as smp_encoder
