"""Run every notebook in place, in the order in which they build on one another; stop at the first error.

Arguments: the notebooks to run (default: all); --flags "slow cuda" also runs the cells marked so.
"""
import argparse
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean
from nbdev.config import get_config

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/'.ci'))
from course import NBS, notebooks, tidy


class Client(NotebookClient):
    "Leave out the cells that tests leave out too; they keep the outputs they have."
    marks = set()

    async def async_execute_cell(self, cell, cell_index, **kw):
        directives = re.findall(r'^#\|\s*(.+?)\s*$', cell.source, re.M)
        never = 'nbdev_export(' in cell.source or any(re.match(r'eval:\s*false', d) for d in directives)
        if never or self.marks & {d.split()[0] for d in directives}: return cell
        return await super().async_execute_cell(cell, cell_index, **kw)


def everything():
    "List all notebooks in the order in which they build on one another, the index last."
    return [*notebooks(), NBS/'index.ipynb']


def execute(path):
    "Run one notebook, clean it, and put it in its place only when all of it ran."
    nb = nbformat.read(path, as_version=4)
    Client(nb, timeout=1800, kernel_name='python3', store_widget_state=False, resources={'metadata': {'path': str(path.parent)}}).execute()
    new = path.with_suffix('.tmp')
    nbformat.write(tidy(nb), new)
    os.replace(new, path)
    nbdev_clean(fname=str(path))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('notebooks', nargs='*', type=Path)
    parser.add_argument('--flags', default='', help='also run cells with these marks, such as "slow cuda"')
    args = parser.parse_args()
    paths = [p.resolve() for p in args.notebooks] or everything()
    os.chdir(ROOT)
    Client.marks = set(get_config().tst_flags.split()) - set(args.flags.split())
    for path in paths:
        name, start = path.relative_to(ROOT), time.time()
        try: execute(path)
        except Exception as error: sys.exit(f'{error}\n{name} failed; it and the notebooks after it are as they were')
        print(f'{name}  {time.time() - start:.0f} s', flush=True)
