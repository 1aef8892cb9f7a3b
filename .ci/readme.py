"Write README.md from nbs/index.ipynb, without Quarto."
import posixpath
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
NOTE = '<!-- Made from nbs/index.ipynb by `make readme`: edit that notebook, not this file. -->\n\n'
# what nbconvert would indent goes into fenced blocks; pictures must be files
TEMPLATE = """{%- extends 'markdown/index.md.j2' -%}
{% block stream %}
```text
{{ output.text.rstrip() }}
```
{% endblock stream %}
{% block data_text scoped %}
```text
{{ output.data['text/plain'].rstrip() }}
```
{% endblock data_text %}"""


def problems(nb):
    "Say what in the notebook cannot become part of a README."
    for i, cell in enumerate(nb.cells):
        for out in cell.get('outputs', []):
            kinds = [k for k in out.get('data', {}) if k.startswith('image/')]
            if kinds: yield f'cell {i} of index.ipynb has a picture as output: save it in figures/ and show it with ![](../figures/NAME.png)'
            if out.output_type == 'error': yield f'cell {i} of index.ipynb ended in {out.ename}'


def visible(nb, text=None):
    "Drop hidden cells and directive lines, and mend Markdown, by default its links, from nbs/ to the root."
    text = text or links_from_root
    kept = []
    for cell in nb.cells:
        if cell.cell_type == 'code':
            if re.search(r'^#\|\s*(hide|default_exp)\b', cell.source, re.M): continue
            if re.search(r'^#\|\s*code-fold: true', cell.source, re.M): cell.metadata['transient'] = dict(remove_source=True)   # a table: output only
            cell.source = '\n'.join(l for l in cell.source.splitlines() if not re.match(r'#\|', l)).strip('\n')
        if cell.cell_type == 'markdown': cell.source = text(cell.source)
        for out in cell.get('outputs', []):
            if table := out.get('data', {}).get('text/markdown'): out['data']['text/markdown'] = text(table)
        if cell.source.strip(): kept.append(cell)
    nb.cells = kept
    return nb


def links_from_root(text):
    "Turn all links relative to nbs/ into links relative to the root."
    return re.sub(r'(\]\(|src="|href=")([^)"\s]+)', from_root, text)


def from_root(match):
    "Turn a link relative to nbs/ into one relative to the root."
    before, link = match.groups()
    if re.match(r'[a-z]+:|#|/', link): return before + link
    return before + posixpath.normpath(posixpath.join('nbs', link))


def broken_links(text):
    "Name the local files that a README links to and that are not there."
    links = re.findall(r'(?:\]\(|src="|href=")([^)"\s#]+)', re.sub(r'```.*?```', '', text, flags=re.S))
    return [f'README links to {l}, which does not exist' for l in links if not re.match(r'[a-z]+:|/', l) and not (ROOT/l).exists()]


def readme():
    "Return the text of README.md and a list of what is wrong with it."
    nb = nbformat.read(ROOT/'nbs'/'index.ipynb', as_version=4)
    wrong = list(problems(nb))
    if wrong: return '', wrong
    nb.metadata['language_info'] = {'name': 'python'}
    exporter = MarkdownExporter()
    exporter.raw_template = TEMPLATE
    text, _ = exporter.from_notebook_node(visible(nb))
    text = NOTE + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'
    return text, broken_links(text)


if __name__ == '__main__':
    text, wrong = readme()
    if wrong: sys.exit('\n'.join(wrong))
    (ROOT/'README.md').write_text(text, encoding='utf-8')
    print('README.md written')
