"""Print what CHANGELOG.md says about a version, as the notes of its release.

    python .ci/notes.py v0.1.0      stops where the tag, settings.ini and CHANGELOG.md disagree
"""
import configparser
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r'(\]\()(?!https?:|#)')


def settings():
    "Read settings.ini."
    parser = configparser.ConfigParser(delimiters=['='])
    parser.read(ROOT/'settings.ini', encoding='utf-8')
    return parser['DEFAULT']


def sections(text):
    "Split a changelog at its headings of level two: heading -> text."
    parts = re.split(r'^## +(.+?) *$', text, flags=re.M)
    return dict(zip(parts[1::2], (p.strip() for p in parts[2::2])))


def notes(tag, text, version, url):
    "Return the notes of a tag, with links that work outside the repository; a `ValueError` says what disagrees."
    if tag != f'v{version}': raise ValueError(f'the tag is {tag} and settings.ini says {version}: tag v{version}, or change the version')
    found = sections(text)
    if version not in found: raise ValueError(f'CHANGELOG.md has no section {version}: rename Unreleased when you release')
    if found.get('Unreleased'): raise ValueError(f'CHANGELOG.md says something under Unreleased: put it under {version}, which is about to be released')
    return LINK.sub(rf'\1{url}/blob/{tag}/', found[version])


if __name__ == '__main__':
    cfg = settings()
    try: print(notes(sys.argv[1], (ROOT/'CHANGELOG.md').read_text(encoding='utf-8'), cfg['version'], f'https://github.com/{cfg["user"]}/{cfg["repo"]}'))
    except ValueError as error: sys.exit(str(error))
