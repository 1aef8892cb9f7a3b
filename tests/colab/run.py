"""Run each tutorial as Colab does: the package from a wheel, an empty folder, no repository around.

    python tests/colab/run.py                          all tutorials, under this Python
    python tests/colab/run.py --python python3.10      under another one
    python tests/colab/run.py --share-torch            take everything but coordtok from this environment
    python tests/colab/run.py nbs/tutorials/01*        only these

A wheel is built from the files that git knows, and installed into a new environment with the versions of constraints.txt.
Each tutorial is copied alone into an empty folder and run there with IN_TEST=1, which shortens trainings. --share-torch saves
several gigabytes and tests the wheel, not its requirements; it needs the Python of this environment.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/'.ci'))
import course

LIMIT = 1800                                 # seconds of one tutorial; the machine may be slow
# runs in the new environment; leaves out what tests leave out
RUNNER = """
import re, sys, nbformat
from nbclient import NotebookClient
name, marks, limit = sys.argv[1], set(sys.argv[2].split()), int(sys.argv[3])
nb = nbformat.read(name, as_version=4)
def runs(cell):
    words = re.findall(r'^#\\|\\s*(.+?)\\s*$', cell.source, re.M)
    return not any(re.match(r'eval:\\s*false', w) or w.split()[0] in marks for w in words)
nb.cells = [c for c in nb.cells if c.cell_type == 'code' and runs(c)]
NotebookClient(nb, timeout=limit, kernel_name='python3').execute()
print(len(nb.cells), 'cells')
"""


def call(words, **how):
    "Run a program; where it fails, show what it said and stop."
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, **how)
    if done.returncode: sys.exit(f'{" ".join(map(str, words))[:300]}\n{done.stdout[-2000:]}{done.stderr[-3000:]}')
    return done.stdout.strip()


def wheel(folder):
    "Build a wheel from the files that git knows, in a copy, so that nothing else gets in."
    copy = folder/'source'
    for name in call(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=ROOT).split('\0'):
        if not name or not (ROOT/name).exists(): continue
        (copy/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/name, copy/name)
    call([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', folder, copy])
    shutil.rmtree(copy)
    return next(folder.glob('*.whl'))


def environment(folder, python, built, share):
    "Make an environment that has the wheel and what Colab has anyway, a kernel; return its Python."
    call([python, '-m', 'venv', folder])
    own = folder/'bin'/'python'
    if share:
        place = Path(call([own, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))']))
        (place/'shared.pth').write_text(sysconfig.get_path('purelib') + '\n', encoding='utf-8')
        call([own, '-m', 'pip', 'install', '-q', '--no-deps', '--force-reinstall', built])
    else: call([own, '-m', 'pip', 'install', '-q', '-c', ROOT/'constraints.txt', built, 'ipykernel', 'nbclient'])
    return own


def begins_well(path):
    "Say what is wrong with the first two code cells: one installs, one names the device."
    code = [''.join(c['source']) for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']
    return [f'{path.name}: cell {k + 1} is not {o!r}' for k, o in enumerate((course.INSTALL, course.DEVICE)) if code[k:k+1] != [o]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('notebooks', nargs='*', type=Path, help='default: all tutorials')
    parser.add_argument('--python', default=sys.executable, help='Python of the new environment')
    parser.add_argument('--share-torch', action='store_true', help='take all packages but coordtok from this environment')
    a = parser.parse_args()
    paths = [p.resolve() for p in a.notebooks] or sorted((ROOT/'nbs'/'tutorials').glob('*.ipynb'))
    wrong = [o for p in paths for o in begins_well(p)]
    if wrong: sys.exit('\n'.join(wrong))
    marks = re.search(r'^tst_flags = (.*)', (ROOT/'settings.ini').read_text(encoding='utf-8'), re.M)[1]
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV')}
    env |= dict(IN_TEST='1', PYTHONNOUSERSITE='1', MPLBACKEND='module://matplotlib_inline.backend_inline')
    failed = []
    with tempfile.TemporaryDirectory(prefix='colab-') as folder:
        folder = Path(folder)
        built = wheel(folder)
        own = environment(folder/'venv', a.python, built, a.share_torch)
        env['PATH'] = f'{own.parent}{os.pathsep}{env["PATH"]}'
        where = call([own, '-c', 'import sys, coordtok; print("Python", sys.version.split()[0], coordtok.__version__, coordtok.__file__)'],
                     env=env, cwd=folder)
        if str(folder) not in where: sys.exit(f'coordtok comes from elsewhere: {where}')
        print(f'{built.name}, {built.stat().st_size/1e6:.0f} MB; {where.rsplit(" ", 1)[0]}', flush=True)
        for path in paths:
            empty, start = folder/path.stem, time.time()
            empty.mkdir()
            shutil.copy(path, empty)
            done = subprocess.run([own, '-c', RUNNER, path.name, marks, str(LIMIT)], cwd=empty, env=env, capture_output=True, text=True)
            print('FAILED' if done.returncode else 'ok    ', f'{path.name}  {time.time() - start:.0f} s', done.stdout.strip(), flush=True)
            if done.returncode:
                failed.append(path.name)
                print(done.stderr[-4000:], flush=True)
    sys.exit(bool(failed))


if __name__ == '__main__': main()
