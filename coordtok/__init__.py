__version__ = "0.1.0"

import os

# Threads of PyTorch wait for one another by spinning, which starves them on a machine that also runs a browser. A short
# spin costs nothing where the cores are free and then sleeps (row waiting_cpu of data/results). GNU OpenMP reads this when
# PyTorch is loaded, so it works where coordtok is imported first; who sets either variable keeps it.
if 'OMP_WAIT_POLICY' not in os.environ: os.environ.setdefault('GOMP_SPINCOUNT', '20000')
del os
