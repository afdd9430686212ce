"""Names for the kinds of NumPy arrays that annotations mention everywhere."""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
