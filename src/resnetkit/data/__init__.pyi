from .datasets.dataset import Dataset as Dataset
from .datasets.dataset import Sample as Sample
from .datasets.opening import open_dataset as open_dataset
from .listing import ImageSource as ImageSource
from .listing import listed as listed
