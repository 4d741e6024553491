"""Sources of labelled images: one file per set, or per layout that many sets share.

A source is a function that returns `Splits`: it lists keys, labels and class names, and opens no
image. To add a set, write such a function here and name it in a file of `conf/dataset/`: nothing
else knows of it. `flowers.py` is one that torchvision fetches and lists, `cub.py` one that is
listed here, `cifar.py` one that is kept as arrays.
"""
