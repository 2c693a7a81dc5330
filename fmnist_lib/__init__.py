"""Image classification with PyTorch on Fashion-MNIST: the library behind the chapters.

Data flows one way: ``data`` loads images and labels, ``models`` holds the networks, ``training``
fits them, ``evaluation`` measures how good they are, and ``plotting`` draws the results. That is
the core, along with ``inspection``, ``claims``, ``timing``, ``measured`` and ``trained``. Two wings
build on it, independently of each other: ``experiments`` executes chapters with many parameters,
and ``course`` holds what a class needs.

Nothing is imported here, so that ``import fmnist_lib`` costs next to nothing: import what you use
from its module, as the chapters do.
"""

__version__ = "0.1.0"
