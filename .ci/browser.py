"""Use the explorers in a real browser, in JupyterLab and on the page of `coordtok app`: drag, and see pixels change.

    python .ci/browser.py                 both
    python .ci/browser.py --shots folder  and keep a picture of each explorer

Needs playwright and Chromium: pip install playwright && playwright install chromium. Without them it says so and
ends with 0; --need makes that a failure. CHROMIUM names another Chromium.
"""
import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXPLORERS = 'Three reads', 'Ask for less', 'Planes as dials', 'Samplers', 'Budget', 'Noise to clip', 'Your own file'
WAIT = 120                                   # seconds for an answer; machines differ
# what the pictures of an explorer show, as text that differs when a pixel does
PIXELS = """el => [...el.querySelectorAll('.coordtok-image')].map(img => {
  const c = document.createElement('canvas'); c.width = img.naturalWidth; c.height = img.naturalHeight;
  if (c.width) c.getContext('2d').drawImage(img, 0, 0);
  return c.toDataURL(); })"""


@contextlib.contextmanager
def served(words, env, log):
    "Run a server on a free port until it answers; end it afterwards."
    with socket.socket() as s:
        s.bind(('localhost', 0))
        port = s.getsockname()[1]
    server = subprocess.Popen([o.format(port=port) for o in words], env=env, stdout=log, stderr=log)
    try:
        for _ in range(600):
            if server.poll() is not None: sys.exit(f'the server ended: {" ".join(words)}\n{Path(log.name).read_text()[-2000:]}')
            with contextlib.suppress(OSError), socket.create_connection(('localhost', port), 1): break
            time.sleep(.2)
        yield f'http://localhost:{port}'
    finally:
        server.terminate()
        server.wait(30)


class Page:
    "A page, its errors, and how to find an explorer on it."
    def __init__(self, browser):
        self.page, self.errors = browser.new_page(viewport=dict(width=1300, height=1500), accept_downloads=True), []
        self.page.set_default_timeout(1000*WAIT)
        self.outside = set()                     # addresses elsewhere that could not be fetched, such as a font
        self.page.on('console', self.heard)
        self.page.on('pageerror', lambda e: self.errors.append(str(e)[:300]))

    def heard(self, message):
        "Keep errors; those of other servers apart, for a test machine may have no network."
        if message.type != 'error': return
        place = message.location.get('url', '')
        if message.text.startswith('Failed to load resource') and place.startswith('https://'): self.outside.add(place)
        else: self.errors.append(f'{message.text[:300]} {place}')

    def explorer(self, title):
        "Find an explorer that is shown."
        found = self.page.locator(f'.widget-vbox:has(> .widget-html b:text-is("{title}"))').last
        found.wait_for(timeout=1000*WAIT)
        found.scroll_into_view_if_needed()
        return found

    def changes(self, explorer, act, what):
        "Do something and wait until pixels change."
        self.settled(explorer)
        before, start = explorer.evaluate(PIXELS), time.time()
        act()
        while (after := explorer.evaluate(PIXELS)) == before:
            if time.time() - start > WAIT: sys.exit(f'FAILED {what}: no pixel changed in {WAIT} s')
            time.sleep(.02)
        seconds = time.time() - start
        n = sum(a != b for a, b in zip(before, after))
        print(f'ok     {what}: {n} of {len(after)} pictures changed, seen {1000*seconds:.0f} ms after the gesture began', flush=True)

    def settled(self, explorer, quiet=1.5):
        "Wait until pictures have been there and have not changed for a while."
        last, since, start = None, time.time(), time.time()
        while time.time() - since < quiet or not last or len(min(last, key=len)) < 200:
            now = explorer.evaluate(PIXELS)
            if now != last: last, since = now, time.time()
            if time.time() - start > WAIT: sys.exit(f'FAILED: pictures did not settle in {WAIT} s')
            time.sleep(.1)

    def drag(self, target, start=(.3, .3), end=(.7, .6)):
        "Drag the mouse over an element, in shares of its height and width."
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        def at(o): return box['x'] + o[1]*box['width'], box['y'] + o[0]*box['height']
        mouse = self.page.mouse
        mouse.move(*at(start))
        mouse.down()
        for k in range(1, 9): mouse.move(*at([a + (b - a)*k/8 for a, b in zip(start, end)]))
        mouse.up()

    def slide(self, explorer, name, key='ArrowRight', times=5):
        "Move a slider with the keyboard."
        handle = explorer.locator('.widget-slider', has_text=name).locator('.noUi-handle').first
        handle.focus()
        for _ in range(times): handle.press(key)


def use(page, title, shots):
    "Drag, press keys, slide: each must change pixels."
    e = page.explorer(title)
    target = e.locator('.coordtok-frame[tabindex]')
    if title == 'Planes as dials': target = target.nth(1)
    if target.count():
        target = target.first
        page.changes(e, lambda: page.drag(target), f'{title}: drag')
        def press():
            target.focus()
            if title == 'Planes as dials': target.press('Escape')      # clears the paint
            else: target.press('ArrowUp')
        page.changes(e, press, f'{title}: key')
        if title == 'Ask for less': page.changes(e, lambda: target.press('Shift+ArrowLeft'), f'{title}: shift and key')
    page.changes(e, lambda: page.slide(e, 'frame'), f'{title}: slider')
    if title == 'Noise to clip': page.changes(e, lambda: page.slide(e, 'way', 'Home', 1), f'{title}: back to the noise')
    if title == 'Budget': page.changes(e, lambda: page.slide(e, 'bits', 'ArrowLeft', 1), f'{title}: fewer bits')
    if title == 'Your own file':
        clip = ROOT/'coordtok'/'clips'/'pendulum.mp4'
        def upload():
            with page.page.expect_file_chooser() as chooser: e.locator('button.widget-upload').click()
            chooser.value.set_files(clip)
        page.changes(e, upload, f'{title}: upload')
        e.locator('a[download="pendulum.ctok"]').wait_for(timeout=1000*WAIT)
        with page.page.expect_download() as got: e.locator('a[download]').click()
        size = Path(got.value.path()).stat().st_size
        if size < 1000: sys.exit(f'FAILED {title}: {size} bytes downloaded')
        print(f'ok     {title}: {got.value.suggested_filename}, {size:,} bytes downloaded', flush=True)
    if shots:
        page.settled(e)
        e.screenshot(path=shots/f'{title.lower().replace(" ", "_")}.png')


def in_lab(browser, folder, env, log, shots):
    "Make each explorer in a notebook of JupyterLab and use it."
    import nbformat.v4 as v4
    cells = ['from coordtok.app import explorers\nmade = explorers()', *(f'made[{title!r}]()' for title in EXPLORERS)]
    kernel = dict(kernelspec=dict(name='python3', display_name='Python 3', language='python'))
    book = v4.new_notebook(cells=list(map(v4.new_code_cell, cells)), metadata=kernel)
    (folder/'explore.ipynb').write_text(json.dumps(book), encoding='utf-8')
    words = [str(Path(sys.executable).with_name('jupyter')), 'lab', '--no-browser', '--port={port}', '--IdentityProvider.token=',
             f'--ServerApp.root_dir={folder}', '--allow-root']
    with served(words, env | dict(JUPYTERLAB_WORKSPACES_DIR=str(folder/'workspaces')), log) as url:
        page = Page(browser)
        page.page.goto(f'{url}/lab/tree/explore.ipynb?reset', timeout=1000*WAIT)
        page.page.wait_for_selector('.jp-Notebook .jp-Cell', timeout=1000*WAIT)
        status = "() => document.querySelector('.jp-Notebook-ExecutionIndicator')?.getAttribute('data-status')"
        def reach(wanted, seconds):
            start = time.time()
            while page.page.evaluate(status) != wanted:
                if time.time() - start > seconds: sys.exit(f'FAILED: the kernel is not {wanted} after {seconds} s')
                time.sleep(.1)
            return time.time() - start
        reach('idle', WAIT)
        page.page.keyboard.press('Escape')
        page.page.locator('.lm-MenuBar-item:has-text("Run")').click()
        page.page.locator('.lm-Menu-item:has-text("Run All Cells")').first.click()
        reach('busy', WAIT)
        seconds = reach('idle', 5*WAIT)
        bad = page.page.locator('[data-mime-type="application/vnd.jupyter.error"]').count()
        if bad: sys.exit('FAILED: the notebook holds an error')
        print(f'ok     the notebook ran in {seconds:.0f} s', flush=True)
        for title in EXPLORERS: use(page, title, shots)
        for o in sorted(page.outside): print(f'note   not fetched: {o}')
        return page.errors


def as_page(browser, folder, env, log, shots):
    "Serve the page, open every tab and use each explorer."
    words = [sys.executable, '-m', 'coordtok.commands.options', 'app', '--port', '{port}', '--no-browser']
    with served(words, env, log) as url:
        page = Page(browser)
        page.page.goto(url, timeout=1000*WAIT)
        for title in EXPLORERS:
            tab = page.page.locator('.lm-TabBar-tab', has_text=title)
            tab.wait_for(timeout=1000*WAIT)
            tab.click()
            use(page, title, shots)
        for o in sorted(page.outside): print(f'note   not fetched: {o}')
        return page.errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--shots', type=Path, help='folder for a picture of each explorer')
    parser.add_argument('--only', choices=['lab', 'page'], help='one of the two')
    parser.add_argument('--need', action='store_true', help='fail where there is no browser')
    a = parser.parse_args()
    def without(why):
        print(f'SKIPPED: {why}; pip install playwright && playwright install chromium')
        sys.exit(a.need)
    try: from playwright.sync_api import Error, sync_playwright
    except ImportError: without('playwright is not installed')
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])))
    named = os.environ.get('CHROMIUM') or shutil.which('chromium') or shutil.which('chromium-browser')
    with sync_playwright() as p, tempfile.TemporaryDirectory() as folder:
        try: browser = p.chromium.launch(executable_path=named, args=['--no-sandbox'])
        except Error as e: without(f'no browser could be started ({str(e).splitlines()[0]})')
        failed = []
        for name, test in (('lab', in_lab), ('page', as_page)):
            if a.only not in (None, name): continue
            print(f'--- {name}', flush=True)
            place = Path(folder)/name
            place.mkdir()
            shots = a.shots and a.shots/name
            if shots: shots.mkdir(parents=True, exist_ok=True)
            with (Path(folder)/f'{name}.log').open('w') as log: errors = test(browser, place, env, log, shots)
            print(f'{"FAILED" if errors else "ok    "} console: {errors or "no error"}', flush=True)
            failed += errors
        browser.close()
    sys.exit(bool(failed))


if __name__ == '__main__': main()
