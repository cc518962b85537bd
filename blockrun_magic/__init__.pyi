# The public names, for type checkers and for `__init__.py`, which imports them lazily from this list.

import IPython.core.interactiveshell

from .api import aedit as aedit
from .api import agenerate as agenerate
from .api import edit as edit
from .api import generate as generate
from .api import list_payments as list_payments
from .errors import BlockrunError as BlockrunError
from .errors import Money as Money
from .notebook.extension import openai_client as openai_client
from .notebook.extension import paint_mask as paint_mask
from .notebook.extension import panel as panel
from .studio import ImageResult as ImageResult
from .studio import ImageResults as ImageResults
from .studio import Options as Options
from .studio import Studio as Studio
from .wiring import open_studio as open_studio

__version__: str

def load_ipython_extension(shell: IPython.core.interactiveshell.InteractiveShell) -> None: ...
def unload_ipython_extension(shell: IPython.core.interactiveshell.InteractiveShell) -> None: ...
