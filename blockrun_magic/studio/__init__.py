"""The studio: it turns requests into images, always in the same order of steps."""

from blockrun_magic.studio.batch import BatchProgress, make_all
from blockrun_magic.studio.payment.retry import RetryPolicy
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.results.batch import Failure, ImageResults
from blockrun_magic.studio.results.result import ImageResult, Quote, Receipt
from blockrun_magic.studio.studio import Options, Studio

__all__ = [
    "BatchProgress",
    "Failure",
    "ImageResult",
    "ImageResults",
    "Options",
    "Progress",
    "Quote",
    "Receipt",
    "RetryPolicy",
    "Studio",
    "make_all",
]
