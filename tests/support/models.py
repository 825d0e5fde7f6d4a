# SPDX-License-Identifier: Apache-2.0
"""Which model a test runs: the bundled one, or the shared miniature where only that is present."""
import os
import pathlib

from process import SKIP

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "examples/models/shop-qwen3"


def shared(path):
    """A folder of the shared test data (MILLRACE_SHARED, or ../shared beside the source tree), else SKIP."""
    base = pathlib.Path(os.environ.get("MILLRACE_SHARED") or ROOT.parent / "shared")
    for found in (base / path, base / "data" / path):
        if found.exists():
            return found
    return SKIP("%s is not here: set MILLRACE_SHARED" % path)


def any_model():
    return BUNDLED if (BUNDLED / "model.safetensors").is_file() else shared("models/stories260k")
