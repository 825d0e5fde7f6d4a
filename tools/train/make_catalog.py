# SPDX-License-Identifier: Apache-2.0
"""Writes the shop's catalogue as JSON lines; standard library only."""

import argparse
from pathlib import Path

from shop.catalog import Catalog


def main():
    """Reads the command line and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Catalog().write(args.out)


if __name__ == "__main__":
    main()
