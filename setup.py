"""What `pyproject.toml` cannot say: `conf/`, at the top of a clone, is `sgid/conf` in a wheel."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["sgid*"]), "sgid.conf"],
    package_dir={"sgid.conf": "conf"},
)
