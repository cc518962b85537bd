"""The studio, which turns requests into images in a fixed order of steps.

Its names are imported when they are first used. A package that imports its own modules while a thread imports one of
them directly makes Python report a deadlock: the studio is opened in the background while cells run.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
