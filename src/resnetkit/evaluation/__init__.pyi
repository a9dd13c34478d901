from .ambiguity_trial import try_facts as try_facts
from .benchmarking import Benchmark as Benchmark
from .benchmarking import benchmark as benchmark
from .evaluation import Evaluation as Evaluation
from .evaluation import Measurement as Measurement
from .evaluation import evaluate as evaluate
from .mistake_pictures import mistake_pictures as mistake_pictures
