"""Keep the course together: the reading order, the line under each title, folded cells, no frozen progress bars.

    python .ci/course.py      put the line with the badge and the links under every title, and tidy every notebook

`check.py` asks this file how a notebook should be; `execute.py` lets it tidy what was run.
"""
import json
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT/'nbs'
REPO = 'coordtok/coordtok'
USERS = 'tutorials', 'ablations', 'paper'   # folders whose notebooks use the library and export nothing
BADGE = 'https://colab.research.google.com/assets/colab-badge.svg'
FOLDED = {'cellView': 'form', 'jupyter': {'source_hidden': True}}   # in Colab, in JupyterLab
HOSTED = '#| hide\n#| eval: false\n![ -e /content -o -e /kaggle ] && '   # in Colab or on Kaggle
INSTALL = HOSTED + 'pip install -q git+https://github.com/' + REPO
DEVICE = HOSTED + 'coordtok info --system'   # names the GPU, or says that there is none


def notebooks():
    "List all notebooks but the index, each folder in its own order: support, the lessons, commands, then those that only use them."
    groups = [(NBS/'support').glob('*.ipynb'), NBS.glob('[0-9]*.ipynb'), *((NBS/d).glob('*.ipynb') for d in ('commands', *USERS))]
    return [path for group in groups for path in sorted(group)]


def course():
    "List what a reader reads, in order: the lessons, the tutorials, then what the paper claims."
    return sorted(NBS.glob('[0-9]*.ipynb')) + [path for d in USERS for path in sorted((NBS/d).glob('*.ipynb'))]


def link(path, to, before='', after=''):
    "Write a link from one notebook to another one, named without its number."
    name = re.sub(r'^\d\d_', '', to.stem).replace('_', ' ')
    return f'[{before}{name}{after}]({os.path.relpath(to, path.parent)})'


def hidden(cell):
    "Tell whether a cell is marked as none that a reader needs."
    return bool(re.search(r'^#\|\s*hide', ''.join(cell['source']), re.M))


def title(path):
    "Read the title of a notebook and the line below it."
    first = ''.join(json.loads(path.read_text(encoding='utf-8'))['cells'][0]['source']).splitlines()
    return first[0].removeprefix('# '), next((l.removeprefix('> ') for l in first if l.startswith('> ')), '')


def minutes(path):
    "Estimate how long a notebook takes to read: 200 words, or 40 lines of code that are shown, a minute."
    words = lines = 0
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        text = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown': words += len(re.sub(r'\]\([^)]*\)', ']', text).split())
        elif not re.search(r'^#\|\s*(hide|default_exp)', text, re.M) and not answer(cell): lines += text.count('\n') + 1
    return max(1, round(words/200 + lines/40))


PARTS = {'0': 'Begin here', '1': 'The tokenizer', '2': 'Learning', '3': 'Generation', '4': 'Comparison', '5': 'Exploring',
         'tutorials': 'Tutorials', 'ablations': 'Ablations', 'paper': 'The paper'}


def syllabus():
    "Write the course as a table: what to read in which order, what it answers, and how long it takes."
    rows, part = ['| | | minutes |', '|---|---|---|'], None
    for path in course():
        here = PARTS[path.stem[0] if path.parent == NBS else path.parent.name]
        if here != part: rows.append(f'| **{here}** | | |')
        part, (name, about) = here, title(path)
        rows.append(f'| [{name}]({path.relative_to(NBS).as_posix()}) | {about} | {minutes(path)} |')
    return '\n'.join(rows)


def header(path):
    "Write the line under a title: the badge, the notebook before, the course, the notebook after."
    order = course()
    if path not in order: order = sorted(path.parent.glob('*.ipynb'))
    k, where = order.index(path), path.relative_to(ROOT).as_posix()
    line = [f'[![Open in Colab]({BADGE})](https://colab.research.google.com/github/{REPO}/blob/main/{where})']
    if k: line.append(link(path, order[k-1], '← '))
    line.append(f'[the course]({os.path.relpath(NBS/"index.ipynb", path.parent)})')
    line.append(f'[words]({os.path.relpath(NBS/"10_config.ipynb", path.parent)}#glossary)')
    if k+1 < len(order): line.append(link(path, order[k+1], after=' →'))
    return ' · '.join(line)


def frozen_bar(out):
    "Tell whether an output is a progress bar."
    if out['output_type'] == 'stream': return out['name'] == 'stderr' and bool(re.search(r'\d+%\|', ''.join(out['text'])))
    data = out.get('data', {})
    return 'application/vnd.jupyter.widget-view+json' in data and bool(
        re.search(r'\d+%\||\d+\w* \[', ''.join(data.get('text/plain', ''))))


def drop_view(out):
    "Drop the view of a widget beside a still picture: without its kernel it would show an error in the picture's place."
    if any(k.startswith('image/') for k in out.get('data', {})): out['data'].pop('application/vnd.jupyter.widget-view+json', None)


def tidy(nb):
    "Drop progress bars and views of widgets from the outputs, for saved they stand still; fold answers to exercises and hidden cells."
    nb.get('metadata', {}).pop('jupytext', None)
    for cell in nb['cells']:
        if cell['cell_type'] != 'code': continue
        cell['outputs'] = [o for o in cell['outputs'] if not frozen_bar(o)]
        for out in cell['outputs']: drop_view(out)
        cell['metadata'] = dict(FOLDED) if answer(cell) or hidden(cell) else {}
    return nb


def answer(cell):
    "Tell whether a cell answers an exercise: a line that begins with # Answer comes first, after any directive."
    first = next((l for l in ''.join(cell['source']).splitlines() if not l.startswith('#|')), '')
    return first.startswith('# Answer')


def write_headers():
    "Put the line under every title, the two cells for hosted machines after it, and tidy; the index has none of them."
    import nbformat
    from nbdev.clean import nbdev_clean
    for path in [*notebooks(), NBS/'index.ipynb']:
        nb = nbformat.read(path, as_version=4)
        if path.stem != 'index':
            if nb.cells[1].cell_type != 'markdown' or BADGE not in nb.cells[1].source:
                nb.cells.insert(1, nbformat.v4.new_markdown_cell())
            nb.cells[1].source = header(path)
        first = next((k for k, c in enumerate(nb.cells) if c.cell_type == 'code' and '/content' in c.source and 'pip install' in c.source), None)
        if first is not None:
            nb.cells[first].source = INSTALL
            if not nb.cells[first+1].source.endswith('] && coordtok info --system'): nb.cells.insert(first + 1, nbformat.v4.new_code_cell())
            nb.cells[first+1].source = DEVICE
        nbformat.write(tidy(nb), path)
        nbdev_clean(fname=str(path))


if __name__ == '__main__': write_headers()
