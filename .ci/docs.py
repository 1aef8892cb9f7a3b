"""Write the site: the course, the paper, every recorded row, the API; then check every link, image and anchor of it.

    python .ci/docs.py            build into _site/ and check
    python .ci/docs.py --check    check what is there

Pages are made from the notebooks as they are, with their outputs; nothing is run, and the package need not be installed.
nbconvert, which JupyterLab brings along, turns them into Markdown, and Material for MkDocs makes the site.
Needs: pip install -c constraints.txt -e '.[docs]'. To look at it: python -m http.server -d _site
"""
import argparse
import ast
import functools
import json
import logging
import os
import posixpath
import re
import shutil
import sys
from collections import Counter
from fnmatch import fnmatch
from html.parser import HTMLParser
from itertools import groupby
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/'.ci'))
import course

NBS, LIB = ROOT/'nbs', ROOT/'coordtok'
PAGES, SITE = ROOT/'_docs', ROOT/'_site'     # Markdown; the site. Both as the repository is laid out, so that links hold
GITHUB = f'https://github.com/{course.REPO}'
ELSEWHERE = {'nbs/index.ipynb': 'index.md', 'README.md': 'index.md'}      # the README is the first page
PROJECT = 'CHANGELOG.md', 'CONTRIBUTING.md'
KEPT = 'figures/', 'data/results/'           # folders whose files are part of the site
MAIN = ['psnr', 'psnr_clip', 'ssim', 'lpips', 'motion distance', 'frechet', 'accuracy', 'tokens', 'bits', 'seconds']
SETTINGS = {'seed', 'threads', 'workers', 'batch', 'n', 'size', 'repeats', 'n_clips', 'left_out', 'n_params', 'amplitude', 'steps', 'guidance',
            'named_n', 'held_n', 'clips', 'frames', 'pool', 'n_tokens', 'n_scalars', 'pieces', 'lr', 'refine', 'coarsest', 'quality_step',
            'n_other', 'first_seed', 'drawn_seed', 'draws', 'held_out', 'tried_n', 'data', 'planned'}   # no results
CONFIGS = {'config', 'train', 'tok', 'recipe', 'dit', 'mini', 'protocol', 'init', 'held', 'draw'}
NAMED = {'commands': 'Above the lessons', 'support': 'Below the lessons'}


# Links

def relink(text, folder):
    "Point the links of a page at other pages, at files of the site, or, for all else in the repository, at GitHub."
    def new(match):
        before, address = match.groups()
        path, hash, anchor = address.partition('#')
        if not path or re.match(r'[a-z]+:|/', path): return match[0]
        place = posixpath.normpath(posixpath.join(folder, path))
        if place in ELSEWHERE: place = ELSEWHERE[place]
        elif place.endswith('.ipynb'): place = place[:-5] + 'md'
        elif place in PROJECT: pass
        elif (ROOT/place).exists() and not place.startswith(KEPT):
            return f'{before}{GITHUB}/{"tree" if (ROOT/place).is_dir() else "blob"}/main/{place}{hash}{anchor}'
        if before[0] != ']': place = re.sub(r'\.md$', '.html', place)     # MkDocs leaves raw HTML as it is
        return before + posixpath.relpath(place, folder or '.') + hash + anchor
    return re.sub(r'(\]\(|src="|href=")([^)"\s]+)', new, text)


def outside(code, f, text):
    "Apply a function to what is not code."
    return ''.join(o if k % 2 else f(o) for k, o in enumerate(re.split(f'({code})', text, flags=re.S | re.M)))


def mathml(text):
    "Write formulas as MathML, which browsers draw without a script."
    from latex2mathml.converter import convert
    def new(match):
        formula = re.sub(r'\\[bB]ig[lr]?\\\|', r'\\Vert ', match[1] or match[2])   # the one thing that it does not know
        found = convert(formula, display='block' if match[1] else 'inline')
        if '\\' in found: raise ValueError(f'a formula that latex2mathml cannot read: {match[0]}')
        return found
    return re.sub(r'\$\$(.+?)\$\$|\$(?!\s)([^$]+?)\$', new, text, flags=re.S)


def markdown(text, folder):
    "Turn the Markdown of Jupyter into that of MkDocs."
    def plain(o):
        o = re.sub(r'(?m)^(?!\s*(?:[-*]|\d+\.) )(\S.*)\n(?=(?:[-*]|1\.) )', r'\1\n\n', o)   # a list begins after an empty line
        return outside('`[^`\n]+`', lambda p: relink(mathml(p), folder), o)
    return outside('^```.*?^```', plain, text)


# Notebooks

def page(path):
    "Turn a notebook into Markdown; return it and its pictures by name."
    import nbformat
    from nbconvert import MarkdownExporter
    from nbformat.v4 import new_markdown_cell as text
    from readme import TEMPLATE, visible
    folder = path.parent.relative_to(ROOT).as_posix()
    nb = visible(nbformat.read(path, as_version=4), lambda o: markdown(o, folder))
    cells = []
    for cell in nb.cells:
        if not (cell.cell_type == 'code' and course.answer(cell)): cells.append(cell)
        else:
            title = re.match(r'# (Answer[^:\n]*)', cell.source)[1]
            cells += [text(f'<details markdown="1"><summary>{title}</summary>'), cell, text('</details>')]
    nb.cells, nb.metadata['language_info'] = cells, {'name': 'python'}
    exporter = MarkdownExporter()
    exporter.raw_template = TEMPLATE
    out, resources = exporter.from_notebook_node(nb, dict(unique_key=path.stem, output_files_dir=f'{path.stem}_files'))
    title, number = course.title(path)[0], iter(range(1, 1000))
    out = re.sub(r'!\[(?:png|jpeg|svg)\]', lambda m: f'![{title}, picture {next(number)}]', out)
    return re.sub(r'\n{3,}', '\n\n', out), resources['outputs']


# API

def modules():
    "List the modules in the order of their notebooks, those of the lessons first, as (notebook, file)."
    found = []
    for path in course.notebooks():
        name = re.search(r'#\| default_exp (\S+?)(?:\\n)?"', path.read_text(encoding='utf-8'))
        if name: found.append((path, LIB/f'{name[1].replace(".", "/")}.py'))
    return sorted(found, key=lambda o: o[0].parent != NBS)     # the lessons first


def names(tree):
    "Read `__all__`."
    return next((ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == '__all__'), [])


def signature(node, lines):
    "Cut the lines from `def` or `class` to the docstring: types, defaults, and what is said beside each parameter."
    start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    if isinstance(node, ast.ClassDef):
        fields = [k for n in node.body if isinstance(n, ast.AnnAssign) for k in range(n.lineno, n.end_lineno + 1)]
        kept = [*range(start, node.body[0].lineno), *fields]
    elif node.body[0].lineno == node.lineno: return lines[node.lineno-1].strip()
    else: kept = range(start, node.body[0].lineno)
    text = [lines[k-1] for k in kept]
    indent = len(text[0]) - len(text[0].lstrip())
    return '\n'.join(l[indent:] for l in text).rstrip()


def members(node):
    "List the public methods of a class that say what they do, the constructor first."
    methods = [n for n in node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    first = [n for n in methods if n.name == '__init__']
    return first + [n for n in methods if ast.get_docstring(n) and not n.name.startswith('_')]


def defined(tree):
    "Yield (name, node) of what a module defines itself: functions, classes, constants."
    for node in tree.body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, 'targets', [])
        for name in [node.name] if hasattr(node, 'name') else [t.id for t in targets if isinstance(t, ast.Name)]: yield name, node


@functools.cache
def anchors():
    "Say where each public name is described, for those that only one module has."
    found = [(name, file) for _, file in modules() for tree in [ast.parse(file.read_text(encoding='utf-8'))]
             for name, _ in defined(tree) if name in names(tree)]
    count = Counter(name for name, _ in found)
    return {name: f'{dotted(file)}.md#{name}' for name, file in found if count[name] == 1}


def linked(text, own=''):
    "Link each `name` in a sentence to its description."
    return re.sub(r'`(\w+)`', lambda m: f'[{m[0]}]({anchors()[m[1]]})' if m[1] in anchors() and m[1] != own else m[0], text)


def dotted(file): return '.'.join(file.relative_to(LIB).with_suffix('').parts)


def described(node, lines, parent=''):
    "Write one definition: its signature as it stands in the source, and its docstring."
    name = f'{parent}.{node.name}' if parent else node.name
    out = [f'{"###" if parent else "##"} `{name}` {{#{name}}}'] if node.name != '__init__' else []
    out += [f'```python\n{signature(node, lines)}\n```']
    if doc := ast.get_docstring(node): out.append(linked(doc, node.name))
    if isinstance(node, ast.ClassDef): out += [t for n in members(node) for t in described(n, lines, node.name)]
    return out


def api(path, file):
    "Write the page of one module."
    source, (title, about) = file.read_text(encoding='utf-8'), course.title(path)
    tree, lines = ast.parse(source), source.splitlines()
    public = names(tree)
    out = [f'# `coordtok.{dotted(file)}`', about,
           f'Taught in [{title}](../{path.relative_to(ROOT).with_suffix(".md").as_posix()}) · '
           f'[source]({GITHUB}/blob/main/{file.relative_to(ROOT).as_posix()})']
    own = {name: node for name, node in defined(tree) if name in public}
    for name in (n for n in public if n in own):
        if hasattr(own[name], 'name'): out += described(own[name], lines)
        else:
            text = ast.get_source_segment(source, own[name])
            out += [f'## `{name}` {{#{name}}}', f'```python\n{text if len(text) < 2000 else name + " = ..."}\n```']   # or too long to read
    if others := [n for n in public if n not in own]:
        out += ['## Names from other modules', ', '.join(linked(f'`{n}`') for n in others)]
    return '\n\n'.join(out) + '\n'


def api_index():
    "Write a table of all modules."
    out = ['# API', 'What is said here stands in the source, beside each parameter: shapes (`b` batch, `t h w` frames, rows and columns, '
           '`n` queries, `p` pixels of a patch, `c` colours), units, and which error is raised for what. '
           'The names that people need come with `from coordtok.core import *`.']
    for folder, group in groupby(modules(), lambda o: o[0].parent):
        out.append(f'## {NAMED.get(folder.name, "The lessons")}')
        for path, file in group:
            links = ', '.join(linked(f'`{n}`') for n in names(ast.parse(file.read_text(encoding='utf-8'))))
            out.append(f'**[{dotted(file)}]({dotted(file)}.md)**: {course.title(path)[1]}\n{links}')
    return '\n\n'.join(out) + '\n'


# Results

def written(o):
    "Write a number."
    return f'{o:,}' if isinstance(o, int) else f'{o:,.0f}' if abs(o) >= 1e4 else f'{o:.4g}'


def flat(o, name=''):
    "Yield (name, number) of a row: no settings, and nothing of long tables, such as one value a clip."
    for k, v in o.items():
        if k in CONFIGS | SETTINGS or isinstance(v, bool): continue
        if isinstance(v, dict) and len(v) <= 10: yield from flat(v, f'{name}{k} ')
        elif isinstance(v, (int, float)): yield name + k, v


def numbers(row):
    "Choose what a row says first: the usual measures, else its own sentence, else its first numbers."
    every = dict(flat(row))
    chosen = sorted((k for k in every if measure(k)), key=lambda k: MAIN.index(measure(k)))
    if (not chosen or chosen == ['seconds']) and isinstance(row.get('says'), str): return row['says'].replace('|', r'\|')
    return ', '.join(f'{k} {written(every[k])}' for k in [*chosen, *(k for k in every if k not in chosen)][:5]) or 'in the file'


def measure(name):
    "Name the usual measure that a number is, if any."
    return next((o for o in MAIN if name == o or name.startswith(f'{o} ')), None)


def scale(row):
    "Say at which scale, or on which data, a row was measured."
    o = row.get('scale') or row.get('data') or ''
    return (', '.join(Path(k).name for k in o) if isinstance(o, list) else str(o)).replace('|', r'\|')


def readers(rows):
    "Say which notebooks name a row, or a pattern that it fits."
    found = {name: [] for name in rows}
    for path in course.notebooks():
        cells = json.loads(path.read_text(encoding='utf-8'))['cells']
        code = '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'code')
        words = {w for w in re.findall(r"""['"/]([a-z0-9_*]{4,})(?:\.json)?['"]""", code) if '*' not in w or len(w.strip('*')) > 3}
        for name in rows:
            if any(fnmatch(name, w) for w in words): found[name].append(path)
    return found


def results():
    "Write a table of all recorded rows, each with its file and the notebooks that draw on it."
    rows = {p.stem: json.loads(p.read_text(encoding='utf-8')) for p in sorted((ROOT/'data'/'results').glob('*.json'))}
    about = (ROOT/'data'/'README.md').read_text(encoding='utf-8').partition('How to read the rows:')[2]
    used = readers(rows)
    out = ['# Results', f'Every number of this site that was measured has a row: {len(rows)} files, one a run, with configuration, seed, data, '
           'machine and commit. Here are the first numbers of each; its name opens all of it. The last column names notebooks that draw on it. '
           'What they say about the paper is on the page [The paper](nbs/paper/index.md).']
    for group, some in groupby(rows, lambda o: o.split('_')[0]):
        table = ['| row | numbers | read by |', '|---|---|---|']
        for name in some:
            r = rows[name]
            links = ', '.join(f'[{course.title(p)[0]}]({p.relative_to(ROOT).with_suffix(".md").as_posix()})' for p in used[name])
            where = '; '.join(filter(None, [scale(r), r['hardware'], r['date'][:10]]))
            table.append(f'| [{name}](data/results/{name}.json)<br><small>{where}</small> | {numbers(r)} | {links} |')
        out += [f'## {group}', '\n'.join(table)]
    return '\n\n'.join([*out, '## How to read the rows', about.strip(), '']), rows


# The site

def write():
    "Write all pages as Markdown; return their order."
    shutil.rmtree(PAGES, ignore_errors=True)
    def put(name, content):
        place = PAGES/name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return name
    def notebook(path):
        where = path.parent.relative_to(ROOT).as_posix()
        text, pictures = page(path)
        for name, data in pictures.items(): put(f'{where}/{name}', data)
        return put(f'{where}/{path.stem}.md', text)
    def document(name): return markdown((ROOT/name).read_text(encoding='utf-8'), '')
    for folder in KEPT: shutil.copytree(ROOT/folder, PAGES/folder, ignore=shutil.ignore_patterns('demo.*'))
    put('site.css', (ROOT/'.ci'/'site'/'site.css').read_bytes())
    parts = {}
    for path in course.course():
        part = course.PARTS[path.stem[0] if path.parent == NBS else path.parent.name]
        parts.setdefault(part, []).append(notebook(path))
    paper = sorted(parts.pop(course.PARTS['paper']), key=lambda o: not o.endswith('/index.md'))
    below = {NAMED[d]: [notebook(p) for p in course.notebooks() if p.parent.name == d] for d in NAMED}
    pages = {}
    for path, file in modules():
        group = NAMED.get(path.parent.name, 'The lessons')
        pages.setdefault(group, []).append({f'coordtok.{dotted(file)}': put(f'api/{dotted(file)}.md', api(path, file))})
    return [{'Home': put('index.md', document('README.md'))},
            {'Course': [{k: v} for k, v in parts.items()]},
            {'The paper': paper},
            {'Results': put('results.md', results()[0])},
            {'API': [put('api/index.md', api_index()), *({k: v} for k, v in pages.items())]},
            {'Plumbing': [{k: v} for k, v in below.items()]},
            {'Project': [put(name, document(name)) for name in PROJECT]}]


def build():
    "Make the site."
    from mkdocs.commands.build import build as make
    from mkdocs.config import load_config
    logging.basicConfig(level=logging.WARNING, format='%(message)s')
    nav = write()
    make(load_config(str(ROOT/'.ci'/'site'/'mkdocs.yml'), nav=nav, docs_dir=str(PAGES), site_dir=str(SITE)))


class Links(HTMLParser):
    "What a page points at, and what can be pointed at in it."
    def __init__(self, text):
        super().__init__()
        self.to, self.ids, self.bare = set(), set(), 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ('id', 'name') if a.get(k) and (k == 'id' or tag == 'a')}
        self.to |= {a[k] for k in ('href', 'src', 'poster') if a.get(k)}
        self.bare += tag == 'img' and not a.get('alt')


def broken():
    "Yield every link, image and anchor that leads nowhere, and pictures without words; addresses elsewhere are not fetched."
    pages = {p: Links(p.read_text(encoding='utf-8')) for p in sorted(SITE.rglob('*.html'))}
    for path, links in pages.items():
        name = path.relative_to(SITE)
        if path.name == '404.html': continue         # shown at any address, so its links begin at the site
        if links.bare: yield f'{name}: {links.bare} pictures without a description'
        for address in sorted(links.to):
            a = urlsplit(address)
            if a.scheme or a.netloc: continue
            target = Path(os.path.normpath(path.parent/unquote(a.path))) if a.path else path
            if target.is_dir(): target /= 'index.html'
            if not target.is_relative_to(SITE) or not target.exists(): yield f'{name}: {address} is not there'
            elif a.fragment and target in pages and unquote(a.fragment) not in pages[target].ids | {'__top'}:
                yield f'{name}: {address} has no such anchor'


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='only check what is there')
    args = parser.parse_args()
    if not args.check:
        try: build()
        except ModuleNotFoundError as e: sys.exit(f"{e}: pip install -c constraints.txt -e '.[docs]'")
    wrong = list(broken())
    n = sum(1 for _ in SITE.rglob('*.html'))
    if not n: sys.exit('_site/ is empty: python .ci/docs.py')
    if wrong: sys.exit('\n'.join([*wrong, f'{len(wrong)} broken of {n} pages']))
    print(f'_site/ holds {n} pages; every link, image and anchor within it leads somewhere')
