"""Everything that `make test` asks of the project, one line per check; the last line counts.

    python .ci/check.py                       the checks alone
    python .ci/check.py --notebooks           and all notebooks
    python .ci/check.py --notebooks nbs/13*   and these
"""
import argparse
import ast
import io
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tokenize
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NBS, LIB = ROOT/'nbs', ROOT/'coordtok'
FRONT = ('core', 'cli')                      # modules at the top of the package, whose names people type
WIDTH = 110                                  # columns of a line of code
REFUSALS = 2                                 # expected failures that a notebook may show; the others are hidden guards
MAX_KB = 400                                 # of one committed notebook
WORKERS, THREADS = 2, 1                      # notebooks at once, and processor threads of each
TIMEOUT = 1800                               # seconds after which a notebook counts as hanging; no test depends on speed

os.chdir(ROOT)
sys.path.insert(0, str(ROOT/'.ci'))
from execnb.nbio import nb2str, read_nb
from nbdev.clean import clean_nb
from nbdev.config import get_config

import course


def notebooks():
    "List every notebook."
    return sorted(p for p in NBS.rglob('*.ipynb') if not any(part.startswith(('.', '_')) for part in p.relative_to(NBS).parts))


def code_cells(path):
    "Return (source, directives) of each code cell."
    cells = [c for c in read_nb(path).cells if c.cell_type == 'code']
    return [(c.source, re.findall(r'^#\|\s*(\w+)', c.source, re.M)) for c in cells]


def exports(path):
    "Tell whether a notebook writes a module."
    return any({'default_exp', 'export', 'exporti', 'exports'} & set(directives) for _, directives in code_cells(path))


def export_in_sync():
    "coordtok/ is what nbdev_export writes from the notebooks"
    def content(path):
        text = path.read_text(encoding='utf-8')
        return ast.dump(ast.parse(text)) if path.name == '_modidx.py' else text  # an index: its line breaks say nothing
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)/'copy'
        shutil.copytree(NBS, copy/'nbs', ignore=lambda d, names: [n for n in names if (Path(d)/n).is_file() and not n.endswith('.ipynb')])
        (copy/'coordtok').mkdir()
        for name in ('settings.ini', 'pyproject.toml', 'coordtok/__init__.py'): shutil.copy(ROOT/name, copy/name)  # only the version of __init__ is written
        done = subprocess.run([Path(sys.executable).with_name('nbdev_export')], cwd=copy, capture_output=True, text=True)
        if done.returncode: return [f'nbdev_export failed: {done.stderr[-2000:]}']
        names = {p.relative_to(copy) for p in [*(copy/'coordtok').rglob('*.py'), copy/'pyproject.toml']}
        stale = [p.relative_to(ROOT) for p in LIB.rglob('*.py') if p.relative_to(ROOT) not in names]
        return [f'{n} comes from no notebook' for n in sorted(stale)] + [
            f'{n} differs from its notebook: make export' for n in sorted(names)
            if not (ROOT/n).exists() or content(ROOT/n) != content(copy/n)]


def notebooks_clean():
    "notebooks are clean, ran without error, have their outputs, a name in the pattern and a modest size"
    cfg, found = get_config(), []
    for path in notebooks():
        name = path.relative_to(ROOT)
        pattern = {'nbs': r'[0-5]\d_[a-z][a-z0-9_]*|index', 'ablations': r'[a-z0-9_]+', 'paper': r'[a-z0-9_]+'}.get(path.parent.name, r'\d\d_[a-z0-9_]+')
        if not re.fullmatch(pattern, path.stem): found.append(f'{name}: the name should be two digits, _, and lower-case words')
        if path.stat().st_size > MAX_KB*1000: found.append(f'{name}: {path.stat().st_size/1000:.0f} kB, more than {MAX_KB}')
        nb = read_nb(path)
        outputs = [o for c in nb.cells for o in c.get('outputs', [])]
        errors = [o['ename'] for o in outputs if o['output_type'] == 'error']
        if errors: found.append(f'{name}: holds an error output, {errors[0]}')
        if not outputs: found.append(f'{name}: holds no outputs; run it before you commit it')
        clean_nb(nb, cfg.clear_all, cfg.get('allowed_metadata_keys').split(), cfg.get('allowed_cell_metadata_keys').split(), cfg.clean_ids)
        if nb2str(nb) != path.read_text(encoding='utf-8'): found.append(f'{name}: not clean: nbdev_clean')
    for folder in {p.parent for p in notebooks()}:
        numbers = sorted(int(p.stem[:2]) for p in folder.glob('[0-9]*.ipynb'))
        gaps = [n for n in numbers if n-1 not in numbers and n != (n//10*10 if folder == NBS else numbers[0])]
        if gaps: found.append(f'{folder.relative_to(ROOT)}: a number is missing before {gaps[0]:02d}')
    return found


def notebooks_readable():
    "under every title stand a badge and links; code fits the page, saved progress bars are stripped, few refusals are shown"
    found = []
    for path in notebooks():
        name, nb = path.relative_to(ROOT), read_nb(path)
        code = [c for c in nb.cells if c.cell_type == 'code']
        if path.stem != 'index':
            if nb.cells[1].source != course.header(path): found.append(f'{name}: the line under the title is not that of the course: python .ci/course.py')
            if not any(c.source == course.INSTALL for c in code): found.append(f'{name}: has no install cell that works in Colab')
            elif [c.source for c in code[:2]] != [course.INSTALL, course.DEVICE]: found.append(f'{name}: does not begin with the cells that install and name the device: python .ci/course.py')
        wide = [(c.id, len(l)) for c in code for l in c.source.splitlines() if len(l) > WIDTH and not l.lstrip().startswith(('!', '#|'))]
        if wide: found.append(f'{name}: {len(wide)} lines are wider than {WIDTH} columns, such as one of {wide[0][1]} in cell {wide[0][0]}')
        bars = [c.id for c in code for o in c.get('outputs', []) if course.frozen_bar(o)]
        if bars: found.append(f'{name}: holds a progress bar that stands still, in cell {bars[0]}: python .ci/course.py')
        unfolded = [c.id for c in code if course.hidden(c) and not c.metadata.get('jupyter')]
        if unfolded: found.append(f'{name}: the hidden cell {unfolded[0]} is not folded: python .ci/course.py')
        shown = sum(c.source.count('expect_fail(') for c in code if not re.search(r'^#\|\s*hide', c.source, re.M))
        if shown > REFUSALS: found.append(f'{name}: shows {shown} expected failures, more than {REFUSALS}: hide the guards')
    return found


def lessons_lead_on():
    "every lesson has three exercises or more with folded answers, and ends with what the reader has now and a link to what is next"
    found = []
    for path in sorted(NBS.glob('[1-5]*.ipynb')):
        name, nb = path.relative_to(ROOT), read_nb(path)
        answers = [c for c in nb.cells if c.cell_type == 'code' and course.answer(c)]
        if len(answers) < 3: found.append(f'{name}: answers {len(answers)} exercises, at least 3 are asked for')
        open_ = [c.id for c in answers if not c.metadata.get('jupyter', {}).get('source_hidden')]
        if open_: found.append(f'{name}: the answer in cell {open_[0]} is not folded: python .ci/course.py')
        last = [c.source for c in nb.cells if c.cell_type == 'markdown'][-1]
        if not re.match(r'\*\*You now have\*\*', last) or '**Next:** [' not in last:
            found.append(f'{name}: the last text should begin with **You now have** and hold **Next:** [...](...)')
    return found


def readme_in_sync():
    "README.md is what `make readme` writes from nbs/index.ipynb"
    if not (NBS/'index.ipynb').exists(): return ['nbs/index.ipynb is missing']
    from readme import readme
    text, wrong = readme()
    if wrong: return wrong
    return [] if (ROOT/'README.md').read_text(encoding='utf-8') == text else ['README.md differs from nbs/index.ipynb: make readme']


def imported(source):
    "List the modules of coordtok that a cell imports."
    source = '\n'.join(l for l in source.splitlines() if not re.match(r'\s*[!%]', l))
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import): names += [a.name for a in node.names]
        if isinstance(node, ast.ImportFrom) and node.module == 'coordtok': names += [f'coordtok.{a.name}' for a in node.names]
        elif isinstance(node, ast.ImportFrom): names.append(node.module or '')
    names = [n.split('.')[1:] for n in names if n.startswith('coordtok.')]
    return ['.'.join(n[:2] if n[0] in ('support', 'commands') else n[:1]) for n in names]


def module_of(path):
    "Name the module that a notebook writes: the same folder, the same name without its number."
    name = path.stem[3:]
    return name if path.parent == NBS or name in FRONT else f'{path.parent.name}.{name}'


def height(path):
    "Say where a notebook stands: support below the lessons, commands above them, in each folder by number."
    return {'support': 0, 'nbs': 1, 'commands': 2}.get(path.parent.name, 3), int(path.stem[:2])


def arrows_point_down():
    "a notebook is named after its module and imports only from below; only notebooks that export nothing import core"
    found = []
    modules = {module_of(p): height(p) for d in (NBS, NBS/'support', NBS/'commands') for p in d.glob('[0-9]*.ipynb') if exports(p)}
    for path in notebooks():
        name, cells = path.relative_to(ROOT), code_cells(path)
        if path.parent.name in course.USERS:
            if exports(path): found.append(f'{name}: exports, which only numbered notebooks of nbs/, support/ and commands/ do')
            first = next((l for source, _ in cells for l in source.splitlines() if re.match(r'\s*(from|import)\s', l)), '')
            if first != 'from coordtok.core import *': found.append(f'{name}: the first import is {first!r}, not from coordtok.core import *')
        if path.parent.name in course.USERS or not exports(path): continue
        named = next((m[1] for source, _ in cells if (m := re.search(r'^#\|\s*default_exp\s+(\S+)', source, re.M))), None)
        own = module_of(path)
        if named != own: found.append(f'{name}: writes the module {named}, not {own}')
        for source, directives in cells:
            exported = {'export', 'exporti', 'exports'} & set(directives)
            for module in imported(source):
                if module == own and not exported: continue  # a test may look at its own module from outside
                if module not in modules: found.append(f'{name}: imports coordtok.{module}, which has no notebook')
                elif modules[module] >= modules[own]: found.append(f'{name}: imports coordtok.{module}, which is not below it')
    return found


def lint():
    "pyflakes finds nothing in coordtok/"
    done = subprocess.run([sys.executable, '-m', 'pyflakes', 'coordtok'], capture_output=True, text=True)
    return (done.stdout + done.stderr).splitlines()


def undocumented(path):
    "Yield what a module exports without a docstring, and parameters without a comment beside them."
    source = path.read_text(encoding='utf-8')
    tree = ast.parse(source)
    public = next((ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == '__all__'), [])
    noted = {t.start[0] for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}
    for node in tree.body:
        if getattr(node, 'name', None) not in public: continue
        where = f'{path.relative_to(ROOT)}: {node.name}'
        if not ast.get_docstring(node): yield f'{where} has no docstring'
        if isinstance(node, ast.ClassDef):
            init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == '__init__'), None)
            fields = [(n.target.id, n) for n in node.body if isinstance(n, ast.AnnAssign)]
        else: init, fields = node, []
        if init:
            a = init.args
            defaults = dict(zip(reversed(a.posonlyargs + a.args), reversed(a.defaults))) | dict(zip(a.kwonlyargs, a.kw_defaults))
            every = [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]
            fields += [(p.arg, defaults.get(p) or p) for p in every if p.arg not in ('self', 'cls')]
        ends = [n.end_lineno for _, n in fields]  # one line, one parameter, one comment
        for name, n in fields:
            if n.end_lineno not in noted or ends.count(n.end_lineno) > 1: yield f'{where}: nothing is said beside the parameter {name}'


def documented():
    "every exported function and class says what it does and what each parameter is"
    return [line for path in sorted(LIB.rglob('*.py')) if not path.name.startswith('_') for line in undocumented(path)]


def no_machine_paths():
    "no file names a folder of the machine it was made on"
    done = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], capture_output=True, text=True)
    found = [] if not done.returncode else ['git ls-files failed: is this a git repository?']
    for name in filter(None, done.stdout.split('\0')):
        try: text = (ROOT/name).read_text(encoding='utf-8')
        except (OSError, UnicodeDecodeError): continue  # deleted, or not text
        hit = re.search(r'(^|[^A-Za-z0-9_.])/(work|farm|root)/.{0,40}', text, re.M)
        if hit: found.append(f'{name}, line {text[:hit.start()].count(chr(10)) + 1}: {hit[0].strip()}')
    return found


def project_files():
    "workflows and issue forms parse, actions are pinned to major versions, every Python that setup.py names is tested"
    import yaml
    found, files = [], sorted((ROOT/'.github').rglob('*.yml'))
    read = {p.relative_to(ROOT/'.github').as_posix(): yaml.safe_load(p.read_text(encoding='utf-8')) for p in files}
    for name, o in read.items():
        if not name.startswith('workflows/'): continue
        for job, how in o['jobs'].items():
            if not (how.get('runs-on') and how.get('timeout-minutes') and how.get('steps')): found.append(f'{name}: {job} lacks runs-on, timeout-minutes or steps')
            if how.get('needs', job) not in o['jobs']: found.append(f'{name}: {job} needs {how["needs"]}, which is no job')
            for uses in (s['uses'] for s in how['steps'] if 'uses' in s):
                if not re.fullmatch(r'[\w.-]+/[\w.-]+@(v|release/v)\d+', uses): found.append(f'{name}: {uses} is not pinned to a major version')
        if o.get('permissions') != {'contents': 'read'}: found.append(f'{name}: begins with other permissions than reading')
    tested = read['workflows/test.yml']['jobs']['notebooks']['strategy']['matrix']['python']
    named = re.search(r'range\((\d+), (\d+)\)', (ROOT/'setup.py').read_text(encoding='utf-8'))
    if tested != [f'3.{k}' for k in range(*map(int, named.groups()))]: found.append(f'the workflow tests Python {tested}, setup.py names others')
    for name in (n for n in read if n.startswith('ISSUE_TEMPLATE/') and not n.endswith('config.yml')):
        fields = [f for f in read[name]['body'] if f['type'] != 'markdown']
        if len({f['id'] for f in fields}) != len(fields) or not all(f['attributes']['label'] for f in fields):
            found.append(f'{name}: a field has no label or no id of its own')
    if 'coordtok info --system' not in (ROOT/'.github/ISSUE_TEMPLATE/bug.yml').read_text(encoding='utf-8'): found.append('bug.yml does not ask for coordtok info --system')
    return found


def versions_agree():
    "settings.ini, the package, CITATION.cff, CHANGELOG.md and the tags agree on the version"
    import notes
    version, found = notes.settings()['version'], []
    inside = re.search(r'__version__ *= *["\'](.+?)["\']', (LIB/'__init__.py').read_text(encoding='utf-8'))[1]
    cited = re.search(r'^version: *(\S+)', (ROOT/'CITATION.cff').read_text(encoding='utf-8'), re.M)[1]
    said = [k for k in notes.sections((ROOT/'CHANGELOG.md').read_text(encoding='utf-8')) if k != 'Unreleased']
    for name, other in {'coordtok/__init__.py': inside, 'CITATION.cff': cited, 'the newest section of CHANGELOG.md': said[0]}.items():
        if other != version: found.append(f'{name} says {other}, settings.ini {version}')
    tags = subprocess.run(['git', 'tag', '--list', 'v*'], capture_output=True, text=True).stdout.split()
    found += [f'the tag {t} has no section in CHANGELOG.md' for t in tags if t[1:] not in said]
    def number(v): return [int(k) for k in re.findall(r'\d+', v)]
    return found + [f'the tag {t} is newer than {version}' for t in tags if number(t) > number(version)]


CHECKS = export_in_sync, notebooks_clean, notebooks_readable, lessons_lead_on, readme_in_sync, arrows_point_down, lint, documented, no_machine_paths, project_files, versions_agree


def run_one(path):
    "Test one notebook in this process with nbdev, and print what its cells print."
    import nbdev.test
    flags = get_config().tst_flags.split()
    class Shell(nbdev.test.CaptureShell):
        def run_all(self, nb, preproc, **kw):
            def before(cell):
                marks = set(flags) & set(getattr(cell, 'directives_', None) or {})
                if marks: print(f'SKIPPED: a cell marked {" ".join(sorted(marks))}')
                leave_out = preproc(cell)
                if not leave_out: print(f'--- {cell.source.strip()[:80]!r}')
                return leave_out
            def after(cell):
                for out in cell.get('outputs', []):
                    if out['output_type'] == 'stream': print(''.join(out['text']), end='')
            super().run_all(nb, preproc=before, postproc=after, **kw)
    nbdev.test.CaptureShell = Shell
    passed, _ = nbdev.test.test_nb(path, skip_flags=flags, basepath=ROOT)
    sys.exit(not passed)


SERVER = multiprocessing.get_context('forkserver')


def run_here(path, log):
    "Test one notebook in the process that was made for it; what it prints goes into a file."
    os.setsid()                                   # so that whatever it starts can be stopped with it
    multiprocessing.set_start_method(None, force=True)      # the usual one: a forked server hands on its own
    with open(log, 'wb') as out:
        for fd in (1, 2): os.dup2(out.fileno(), fd)
    with open(os.devnull) as nothing: os.dup2(nothing.fileno(), 0)
    for stream in (sys.stdout, sys.stderr): stream.reconfigure(errors='replace', line_buffering=True)
    run_one(path)


def run_apart(path):
    "Test one notebook in a process of its own; return (path, passed, skipped, seconds, output)."
    start = time.time()
    with tempfile.TemporaryDirectory() as d:
        log = Path(d)/'log'
        child = SERVER.Process(target=run_here, args=(path, log))
        child.start()
        child.join(TIMEOUT)
        late = child.exitcode is None
        if late:
            os.killpg(child.pid, signal.SIGKILL)
            child.join()
        text = log.read_text(errors='replace') if log.exists() else ''
    if late: text += f'\nstopped after {TIMEOUT} s'
    text = re.sub(r'\x1b\[[\d;]*m', '', text)  # colours
    return path, child.exitcode == 0, len(re.findall(r'^SKIPPED', text, re.M)), time.time() - start, text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--notebooks', nargs='*', type=Path, help='also test these notebooks, or all')
    args = parser.parse_args()
    start, failed, skipped = time.time(), [], 0
    for check in CHECKS:
        try: wrong = check()
        except Exception as error: wrong = [f'{type(error).__name__}: {error}']
        print('\n       '.join([('FAILED ' if wrong else 'ok     ') + check.__doc__, *wrong]), flush=True)
        if wrong: failed.append(check.__name__)
    paths = [] if args.notebooks is None else [p.resolve() for p in args.notebooks] or notebooks()
    # what every notebook needs is imported once, by a process that does nothing but fork one for each of them
    os.environ |= {'IN_TEST': '1', 'OMP_NUM_THREADS': str(THREADS), 'MPLBACKEND': 'agg', 'PYTHONUNBUFFERED': '1'}
    SERVER.set_forkserver_preload(['torch', 'torchvision', 'matplotlib.pyplot', 'av', 'nbdev.test', 'fastcore.test'])
    with ThreadPoolExecutor(WORKERS) as pool:
        for path, passed, n, seconds, text in pool.map(run_apart, paths):
            name = str(path.relative_to(ROOT))
            print('ok    ' if passed else 'FAILED', f'{name}  {seconds:.0f} s', flush=True)
            for line in text.splitlines() if passed else []:
                if line.startswith('SKIPPED'): print('      ', line, flush=True)
            skipped += n
            if not passed:
                failed.append(name)
                print(text[-6000:], flush=True)
    if failed: print('\nFailed:', ', '.join(failed))
    print(f'{time.time() - start:.0f} s')
    print(f'{len(CHECKS) + len(paths) - len(failed)} passed, {len(failed)} failed, {skipped} skipped', flush=True)
    sys.exit(bool(failed))


if __name__ == '__main__': main()
