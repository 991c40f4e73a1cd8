"""What all tests share: a cache of edora that is empty at the start, and that is not the user's."""

import os
import tempfile

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share their parent's
    cache_folder = tempfile.TemporaryDirectory()
    os.environ["EDORA_CACHE"] = cache_folder.name
