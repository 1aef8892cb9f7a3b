"""Everything that `make test` asks of the project, one line per check; the last line counts.

    python .ci/check.py                       the checks alone
    python .ci/check.py --notebooks           and all notebooks
    python .ci/check.py --notebooks nbs/13*   and these
"""
import argparse
import ast
import io
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
USERS = ('tutorials', 'ablations', 'paper')  # folders whose notebooks use the library and export nothing
MAX_KB = 400                                 # of one committed notebook
WORKERS, THREADS = 2, 1                      # notebooks at once, and processor threads of each
TIMEOUT = 1800                               # seconds after which a notebook counts as hanging; no test depends on speed

os.chdir(ROOT)
sys.path.insert(0, str(ROOT/'.ci'))
from execnb.nbio import nb2str, read_nb
from nbdev.clean import clean_nb
from nbdev.config import get_config


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
    return [n.split('.')[1] for n in names if n.startswith('coordtok.')]


def arrows_point_down():
    "a notebook is named after its module and imports only from lower numbers; only notebooks that export nothing import core"
    found = []
    modules = {p.stem[3:]: int(p.stem[:2]) for p in NBS.glob('[0-9]*.ipynb') if p.stem[:2].isdigit()}
    for path in notebooks():
        name, cells = path.relative_to(ROOT), code_cells(path)
        if path.parent.name in USERS:
            if exports(path): found.append(f'{name}: exports, which only numbered notebooks of nbs/ do')
            first = next((l for source, _ in cells for l in source.splitlines() if re.match(r'\s*(from|import)\s', l)), '')
            if first != 'from coordtok.core import *': found.append(f'{name}: the first import is {first!r}, not from coordtok.core import *')
        if path.parent.name in USERS or not exports(path): continue
        named = next((m[1] for source, _ in cells if (m := re.search(r'^#\|\s*default_exp\s+(\S+)', source, re.M))), None)
        if named != path.stem[3:]: found.append(f'{name}: writes the module {named}, not {path.stem[3:]}')
        for source, directives in cells:
            exported = {'export', 'exporti', 'exports'} & set(directives)
            for module in imported(source):
                if module == path.stem[3:] and not exported: continue  # a test may look at its own module from outside
                if module not in modules: found.append(f'{name}: imports coordtok.{module}, which has no notebook')
                elif modules[module] >= modules[path.stem[3:]]: found.append(f'{name}: imports coordtok.{module}, which is not below it')
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
    return [line for path in sorted(LIB.glob('*.py')) if not path.name.startswith('_') for line in undocumented(path)]


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


CHECKS = export_in_sync, notebooks_clean, readme_in_sync, arrows_point_down, lint, documented, no_machine_paths


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


def run_apart(path):
    "Test one notebook in a process of its own; return (path, passed, skipped, seconds, output)."
    start = time.time()
    env = os.environ | {'IN_TEST': '1', 'OMP_NUM_THREADS': str(THREADS), 'MPLBACKEND': 'agg', 'PYTHONUNBUFFERED': '1'}
    child = subprocess.Popen([sys.executable, __file__, '--one', path], env=env, stdin=subprocess.DEVNULL, text=True, errors='replace',
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try: text, _ = child.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        text = child.communicate()[0] + f'\nstopped after {TIMEOUT} s'
    text = re.sub(r'\x1b\[[\d;]*m', '', text)  # colours
    return path, child.returncode == 0, len(re.findall(r'^SKIPPED', text, re.M)), time.time() - start, text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--notebooks', nargs='*', type=Path, help='also test these notebooks, or all')
    parser.add_argument('--one', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one: run_one(args.one.resolve())
    start, failed, skipped = time.time(), [], 0
    for check in CHECKS:
        try: wrong = check()
        except Exception as error: wrong = [f'{type(error).__name__}: {error}']
        print('\n       '.join([('FAILED ' if wrong else 'ok     ') + check.__doc__, *wrong]), flush=True)
        if wrong: failed.append(check.__name__)
    paths = [] if args.notebooks is None else [p.resolve() for p in args.notebooks] or notebooks()
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
