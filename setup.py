"Package metadata lives in settings.ini, where nbdev reads it too; this file hands it to setuptools."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_namespace_packages, setup

parser = ConfigParser(delimiters=['='])
parser.read('settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
url, raw = cfg['git_url'], cfg['git_url'].replace('github.com', 'raw.githubusercontent.com')


def described():
    "Return the README with absolute links, so that they work on the page of a package index, too."
    if not Path('README.md').exists(): return cfg['description']
    text = Path('README.md').read_text(encoding='utf-8')
    text = re.sub(r'(!\[[^]]*\]\(|src=")(?!https?:)', rf'\1{raw}/{cfg["branch"]}/', text)
    return re.sub(r'(\]\()(?!https?:|#)', rf'\1{url}/blob/{cfg["branch"]}/', text)


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=described(),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=url,
    project_urls={'Source': url, 'Changes': f'{url}/blob/{cfg["branch"]}/CHANGELOG.md', 'Issues': f'{url}/issues', 'Licences': f'{url}/blob/{cfg["branch"]}/NOTICE',
                  'Course': f'{url}/blob/{cfg["branch"]}/nbs/index.ipynb'},
    keywords=cfg['keywords'],
    classifiers=['Development Status :: 3 - Alpha', 'Environment :: Console', 'Framework :: Jupyter',
                 'Intended Audience :: Education', 'Intended Audience :: Science/Research', 'Operating System :: OS Independent',
                 *(f'Programming Language :: Python :: 3.{k}' for k in range(10, 15)),
                 'Topic :: Multimedia :: Video', 'Topic :: Scientific/Engineering :: Artificial Intelligence', 'Typing :: Typed'],
    python_requires=f">={cfg['min_python']}",
    # clips and weights lie in folders without modules: namespace packages, for setuptools
    packages=find_namespace_packages(include=['coordtok', 'coordtok.*'], exclude=['*.__pycache__']),
    package_data={'': ['*.mp4', '*.json', '*.safetensors', 'README.md', 'py.typed']},
    include_package_data=False,
    install_requires=cfg['requirements'].split(),
    extras_require={k.removesuffix('_requirements'): v.split() for k, v in cfg.items() if k.endswith('_requirements')},
    entry_points={'console_scripts': cfg['console_scripts'].split()},
)
