"""What `pyproject.toml` cannot say: `conf/`, at the top of a clone, is `sgid/conf` in a wheel, and
`hydra_plugins` is a package without `__init__.py`, which other plugins of Hydra share.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["sgid*"]), "sgid.conf", "hydra_plugins"],
    package_dir={"sgid.conf": "conf"},
)
